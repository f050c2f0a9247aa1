import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** JSON token by token with Jackson's fast numbers, without a tree; nested arrays are flattened. */
final class JsonDecoder implements Decoder {
    private final JsonFactory factory =
            JsonFactory.builder().enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER).build();
    private final Map<String, Integer> places = new HashMap<>();
    private final int width;

    JsonDecoder(List<String> features, int width) {
        this.width = width;
        features.forEach(name -> places.put(name, places.size()));
    }

    @Override
    public void decode(byte[] event, FloatBuffer rows, int row) throws IOException {
        for (int place = 0; place < width; place++) {
            rows.put(row + place, 0); // of null, and of what an event leaves out
        }
        try (JsonParser parser = factory.createParser(event)) {
            require(parser.nextToken() == JsonToken.START_OBJECT, "an event that is no object");
            for (String name = parser.nextFieldName(); name != null; name = parser.nextFieldName()) {
                JsonToken token = parser.nextToken();
                Integer place = places.get(name);
                if (place == null) {
                    parser.skipChildren();
                } else {
                    int end = read(parser, token, rows, row + place);
                    require(token != JsonToken.START_ARRAY || end == row + width, "an array of another length");
                }
            }
            require(parser.nextToken() == null, "bytes behind the end of an event");
        }
    }

    /** Writes the numbers of one value from `to` on and returns the place after the last. */
    private static int read(JsonParser parser, JsonToken token, FloatBuffer rows, int to) throws IOException {
        switch (token) {
            case START_ARRAY:
                for (JsonToken next = parser.nextToken(); next != JsonToken.END_ARRAY; next = parser.nextToken()) {
                    to = read(parser, next, rows, to);
                }
                return to;
            case VALUE_NUMBER_FLOAT, VALUE_NUMBER_INT:
                rows.put(to, (float) parser.getDoubleValue()); // rounded twice, as everybody else's is
                return to + 1;
            case VALUE_TRUE:
                rows.put(to, 1);
                return to + 1;
            case VALUE_FALSE, VALUE_NULL:
                return to + 1;
            default:
                throw new IllegalArgumentException("a feature that is no number: " + token);
        }
    }

    private static void require(boolean good, String otherwise) {
        if (!good) {
            throw new IllegalArgumentException(otherwise);
        }
    }
}
