import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What a Java expert writes by hand: poll, decode, one model run, one transaction, again; exactly once.
 *
 * Whatever goes wrong ends the program: the transaction is then aborted, and a restart goes on from what is committed.
 *
 * <p>Arguments: SERVERS JOB.json SOURCE TARGET GROUP MODEL.onnx EVENTS_PER_TRANSACTION [INSTANCE]. Instances of one
 * group need different names, for a transactional id belongs to one producer; ended by SIGTERM.
 */
public final class HandTuned {
    private HandTuned() {}

    public static void main(String[] args) throws Exception {
        String target = args[3];
        int most = Integer.parseInt(args[6]);
        Model model = new Model(args[5], most);
        Decoder decoder = Decoder.of(Path.of(args[1]), model.width);
        String instance = args.length > 7 ? args[7] : "0";
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(args[0], args[4], most);
                KafkaProducer<byte[], byte[]> producer = producer(args[0], args[4] + "-" + instance)) {
            producer.initTransactions();
            consumer.subscribe(List.of(args[2]));
            endWithSignal(consumer);
            while (true) {
                ConsumerRecords<byte[], byte[]> events = consumer.poll(Duration.ofSeconds(1));
                if (!events.isEmpty()) {
                    float[] scores = scores(events, decoder, model);
                    producer.beginTransaction();
                    send(events, scores, target, producer);
                    producer.sendOffsetsToTransaction(events.nextOffsets(), consumer.groupMetadata());
                    producer.commitTransaction();
                }
            }
        } catch (WakeupException asked) {
            // to end: between two transactions, for only poll() is woken
        }
    }

    private static float[] scores(ConsumerRecords<byte[], byte[]> events, Decoder decoder, Model model)
            throws Exception {
        int row = 0;
        for (ConsumerRecord<byte[], byte[]> event : events) {
            decoder.decode(event.value(), model.rows, row);
            row += model.width;
        }
        return model.scores(events.count());
    }

    private static void send(
            ConsumerRecords<byte[], byte[]> events,
            float[] scores,
            String target,
            KafkaProducer<byte[], byte[]> producer) {
        int i = 0;
        for (ConsumerRecord<byte[], byte[]> event : events) {
            byte[] value = Output.of(scores[i++], event.partition(), event.offset());
            // an event's partition is its output's; what fails to be sent fails the commit
            producer.send(new ProducerRecord<>(target, event.partition(), event.key(), value));
        }
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String servers, String group, int most) {
        return new KafkaConsumer<>(
                Map.of(
                        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, servers,
                        ConsumerConfig.GROUP_ID_CONFIG, group,
                        ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                        ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false,
                        ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
                        ConsumerConfig.MAX_POLL_RECORDS_CONFIG, most,
                        ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 << 20, // several batches a fetch
                        ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, 5,
                        ConsumerConfig.RECEIVE_BUFFER_CONFIG, -1), // the kernel sizes it by need
                new ByteArrayDeserializer(),
                new ByteArrayDeserializer());
    }

    private static KafkaProducer<byte[], byte[]> producer(String servers, String transactionalId) {
        return new KafkaProducer<>(
                Map.of(
                        ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers,
                        ProducerConfig.TRANSACTIONAL_ID_CONFIG, transactionalId,
                        ProducerConfig.COMPRESSION_TYPE_CONFIG, "lz4",
                        // a commit flushes, so that lingering never delays one: it only keeps batches whole
                        ProducerConfig.LINGER_MS_CONFIG, 2,
                        ProducerConfig.BATCH_SIZE_CONFIG, 256 << 10,
                        ProducerConfig.BUFFER_MEMORY_CONFIG, 64L << 20,
                        ProducerConfig.SEND_BUFFER_CONFIG, -1),
                new ByteArraySerializer(),
                new ByteArraySerializer());
    }

    private static void endWithSignal(KafkaConsumer<byte[], byte[]> consumer) {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                main.join(10_000);
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
    }
}
