import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Reads what the model wants of one event straight into the model's input: no object per event or field. */
interface Decoder {
    /** Writes the features of an event at `row` and the places after it; throws on anything but one whole event. */
    void decode(byte[] event, FloatBuffer rows, int row) throws IOException;

    /** The decoder of a job, for a model that reads `width` floats an event. */
    static Decoder of(Path job, int width) throws IOException {
        JsonNode told = new ObjectMapper().readTree(job.toFile());
        List<String> features = new ArrayList<>();
        told.get("features").forEach(name -> features.add(name.asText()));
        if (features.size() != 1 && features.size() != width) { // one feature may be an array of that many
            throw new IllegalArgumentException("the model reads " + width + " floats, not " + features.size());
        }
        return told.get("framing").asText().equals("json")
                ? new JsonDecoder(features, width)
                : new AvroDecoder(told.get("schema"), features, width, told.path("header_bytes").asInt(10));
    }
}
