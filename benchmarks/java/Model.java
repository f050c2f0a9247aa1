import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Map;
import java.util.Set;

/**
 * An ONNX model on one thread. Its input is written in place: onnxruntime reads the buffer `rows` without a copy.
 *
 * Lives as long as the program, so that nothing is closed but tensors.
 */
final class Model {
    /** Floats of one event. */
    final int width;

    /** The input, one event after another. */
    final FloatBuffer rows;

    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final OrtSession session;
    private final String input;
    private final Set<String> output;
    private final long[] shape;
    private final float[] scores;
    private OnnxTensor tensor;

    Model(String path, int events) throws OrtException {
        OrtSession.SessionOptions options = new OrtSession.SessionOptions();
        options.setIntraOpNumThreads(1); // the second core is for the broker and the client's own threads
        options.setInterOpNumThreads(1);
        session = environment.createSession(path, options);
        input = session.getInputNames().iterator().next();
        output = Set.of(session.getOutputNames().iterator().next());
        shape = ((TensorInfo) session.getInputInfo().get(input).getInfo()).getShape().clone();
        int floats = 1;
        for (int axis = 1; axis < shape.length; axis++) {
            floats = Math.multiplyExact(floats, Math.toIntExact(shape[axis]));
        }
        if (shape.length < 2 || floats < 1) {
            throw new IllegalArgumentException("the model does not tell how many floats an event has");
        }
        width = floats;
        rows = ByteBuffer.allocateDirect(Math.multiplyExact(events, width * Float.BYTES))
                .order(ByteOrder.nativeOrder())
                .asFloatBuffer();
        scores = new float[events];
    }

    /** The scores of the first `events` rows, in an array that the next call overwrites: the output's first column. */
    float[] scores(int events) throws OrtException {
        if (tensor == null || shape[0] != events) { // a tensor is only a view: it sees what is written later
            if (tensor != null) {
                tensor.close();
            }
            shape[0] = events;
            rows.limit(events * width);
            tensor = OnnxTensor.createTensor(environment, rows, shape);
            rows.clear();
        }
        try (OrtSession.Result result = session.run(Map.of(input, tensor), output)) {
            FloatBuffer found = ((OnnxTensor) result.get(0)).getFloatBuffer();
            int columns = found.remaining() / events;
            for (int i = 0; i < events; i++) {
                scores[i] = found.get(i * columns);
            }
        }
        return scores;
    }
}
