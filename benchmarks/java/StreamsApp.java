import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/**
 * The job as Kafka Streams' documentation would have one write it: a topology of one processor, an event at a time.
 *
 * <p>Arguments: SERVERS JOB.json SOURCE TARGET GROUP MODEL.onnx GUARANTEE (exactly_once_v2 or at_least_once).
 */
public final class StreamsApp {
    private StreamsApp() {}

    /** Scores one event. Streams makes one for each task, and runs all of a thread one after another. */
    private static final class Scorer extends ContextualFixedKeyProcessor<byte[], byte[], byte[]> {
        private final Model model;
        private final Decoder decoder;

        Scorer(Model model, Decoder decoder) {
            this.model = model;
            this.decoder = decoder;
        }

        @Override
        public void process(FixedKeyRecord<byte[], byte[]> event) {
            try {
                decoder.decode(event.value(), model.rows, 0);
                RecordMetadata source = context().recordMetadata().orElseThrow();
                byte[] value = Output.of(model.scores(1)[0], source.partition(), source.offset());
                context().forward(event.withValue(value));
            } catch (Exception wrong) {
                throw new IllegalStateException("an event was not scored", wrong);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        Model model = new Model(args[5], 1);
        Decoder decoder = Decoder.of(Path.of(args[1]), model.width);
        StreamsBuilder builder = new StreamsBuilder();
        Serde<byte[]> bytes = Serdes.ByteArray();
        builder.stream(args[2], Consumed.with(bytes, bytes))
                .processValues(() -> new Scorer(model, decoder)) // one thread, so that tasks may share a model
                .to(args[3], Produced.with(bytes, bytes));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args[0], args[4], args[6]));
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(wrong -> {
            wrong.printStackTrace();
            failed.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
        failed.await();
        System.exit(1);
    }

    private static Properties settings(String servers, String group, String guarantee) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100); // the default of exactly_once_v2, here for both
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("streams-").toString());
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 5);
        return settings;
    }
}
