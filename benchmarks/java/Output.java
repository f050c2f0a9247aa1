import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** An Avro single object: score (double), version (string), source partition (int), source offset (long). */
final class Output {
    private static final int HEADER_BYTES = 10; // zeros: their cost is what counts
    private static final byte[] VERSION = {4, 'v', '1'};
    private static final int VERSION_AT = HEADER_BYTES + Double.BYTES;
    private static final int NUMBERS_AT = VERSION_AT + VERSION.length;
    private static final VarHandle DOUBLE =
            MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);

    private Output() {}

    static byte[] of(double score, int partition, long offset) {
        long first = zigzag(partition);
        long second = zigzag(offset);
        int middle = NUMBERS_AT + size(first);
        byte[] value = new byte[middle + size(second)];
        DOUBLE.set(value, HEADER_BYTES, score);
        System.arraycopy(VERSION, 0, value, VERSION_AT, VERSION.length);
        write(first, value, NUMBERS_AT);
        write(second, value, middle);
        return value;
    }

    private static long zigzag(long number) {
        return (number << 1) ^ (number >> 63);
    }

    private static int size(long bits) {
        return (70 - Long.numberOfLeadingZeros(bits | 1)) / 7; // seven bits a byte, rounded up
    }

    private static void write(long bits, byte[] value, int at) {
        for (; (bits & ~0x7FL) != 0; bits >>>= 7) {
            value[at++] = (byte) (bits & 0x7F | 0x80);
        }
        value[at] = (byte) bits;
    }
}
