import com.fasterxml.jackson.databind.JsonNode;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;

/**
 * Avro by hand: the schema becomes a list of steps once, and an event is one walk over its bytes along them.
 *
 * Every event is walked to its end, also behind the last feature, so that a damaged one is noticed. Not thread-safe.
 */
final class AvroDecoder implements Decoder {
    private static final VarHandle DOUBLE = view(double[].class);
    private static final VarHandle FLOAT = view(float[].class);
    private static final int SKIPPED = -1; // the place of what the model does not read
    private static final int NEVER_NULL = -1;

    private enum Kind { DOUBLE, FLOAT, VARINT, BOOLEAN, BYTES, ARRAY }

    /** A field: its kind, the branch of its union that is null, its place in the row, its items if it is an array. */
    private record Step(Kind kind, int nullBranch, int place, Step items) {}

    private final Step[] plan;
    private final int width;
    private final int headerBytes;
    private byte[] event;
    private int at;

    AvroDecoder(JsonNode schema, List<String> features, int width, int headerBytes) {
        this.width = width;
        this.headerBytes = headerBytes;
        List<Step> steps = new ArrayList<>();
        int found = 0;
        for (JsonNode field : schema.get("fields")) {
            int place = features.indexOf(field.get("name").asText());
            steps.add(step(field.get("type"), place < 0 ? SKIPPED : place));
            found += place < 0 ? 0 : 1;
        }
        if (found != features.size()) {
            throw new IllegalArgumentException("the schema lacks some of the features " + features);
        }
        plan = steps.toArray(new Step[0]);
    }

    @Override
    public void decode(byte[] event, FloatBuffer rows, int row) {
        this.event = event;
        at = headerBytes;
        for (Step step : plan) {
            boolean wanted = step.place != SKIPPED;
            int end = read(step, rows, wanted ? row + step.place : SKIPPED);
            if (wanted && step.kind == Kind.ARRAY && end != row + width) {
                throw new IllegalArgumentException("an array of other than " + width + " numbers");
            }
        }
        if (at != event.length) {
            throw new IllegalArgumentException((event.length - at) + " bytes behind the end of an event");
        }
    }

    /** Reads one value, writes its numbers from `to` on, and returns the place after the last. */
    private int read(Step step, FloatBuffer rows, int to) {
        if (step.nullBranch != NEVER_NULL) {
            long branch = varint();
            if (branch == step.nullBranch) {
                return put(rows, to, 0);
            } else if (branch != 1 - step.nullBranch) {
                throw new IllegalArgumentException("no branch " + branch + " in a union of two");
            }
        }
        switch (step.kind) {
            case DOUBLE:
                at += 8;
                return put(rows, to, (double) DOUBLE.get(event, at - 8));
            case FLOAT:
                at += 4;
                return put(rows, to, (float) FLOAT.get(event, at - 4));
            case VARINT:
                return put(rows, to, varint());
            case BOOLEAN:
                return put(rows, to, event[at++]);
            case BYTES:
                long length = varint();
                if (length < 0 || length > event.length - at) {
                    throw new IllegalArgumentException("a text of " + length + " bytes");
                }
                at += (int) length;
                return to;
            default:
                return array(step.items, rows, to);
        }
    }

    private int array(Step items, FloatBuffer rows, int to) {
        for (long count = varint(); count != 0; count = varint()) {
            if (count < 0) { // a block that tells its size in bytes
                varint();
                count = -count;
            }
            for (; count > 0; count--) {
                to = read(items, rows, to);
            }
        }
        return to;
    }

    private static int put(FloatBuffer rows, int to, double number) {
        if (to == SKIPPED) {
            return to;
        }
        rows.put(to, (float) number);
        return to + 1;
    }

    private long varint() {
        long bits = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            byte next = event[at++];
            bits |= (next & 0x7FL) << shift;
            if (next >= 0) {
                return (bits >>> 1) ^ -(bits & 1);
            }
        }
        throw new IllegalArgumentException("a number of more than ten bytes");
    }

    private static Step step(JsonNode type, int place) {
        if (type.isArray()) {
            int nullBranch = type.get(0).asText().equals("null") ? 0 : 1;
            if (type.size() != 2 || !type.get(nullBranch).asText().equals("null")) {
                throw new IllegalArgumentException("a union that is not of null and one other: " + type);
            }
            Step value = step(type.get(1 - nullBranch), place);
            return new Step(value.kind, nullBranch, place, value.items);
        }
        String name = type.isObject() ? type.get("type").asText() : type.asText();
        Step items = name.equals("array") ? step(type.get("items"), place) : null;
        Kind kind = switch (name) {
            case "double" -> Kind.DOUBLE;
            case "float" -> Kind.FLOAT;
            case "int", "long", "enum" -> Kind.VARINT;
            case "boolean" -> Kind.BOOLEAN;
            case "string", "bytes" -> Kind.BYTES;
            case "array" -> Kind.ARRAY;
            default -> throw new IllegalArgumentException("no decoder for " + type);
        };
        if (place != SKIPPED && (kind == Kind.BYTES || name.equals("enum"))) {
            throw new IllegalArgumentException("a feature that is no number: " + type);
        }
        return new Step(kind, NEVER_NULL, place, items);
    }

    private static VarHandle view(Class<?> array) {
        return MethodHandles.byteArrayViewVarHandle(array, ByteOrder.LITTLE_ENDIAN);
    }
}
