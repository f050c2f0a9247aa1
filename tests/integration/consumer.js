// An application in another language: Java's Kafka and Avro libraries, and nothing of Penstock but two topic names.
// Run by Rhino with the arguments BOOTSTRAP TOPIC COUNT; prints every inference as one line of JSON.
var kafka = Packages.org.apache.kafka;
var avro = Packages.org.apache.avro;
var bootstrap = arguments[0], topic = arguments[1], count = Number(arguments[2]);

function openConsumer() {
    var settings = new java.util.Properties();
    settings.put("bootstrap.servers", bootstrap);
    settings.put("isolation.level", "read_committed");
    var bytes = new kafka.common.serialization.ByteArrayDeserializer();
    return new kafka.clients.consumer.KafkaConsumer(settings, bytes, bytes);
}

// Calls `take` with every record of a topic, from the first to the last that is there now or until it returns true.
function readAll(name, take) {
    var consumer = openConsumer();
    var partitions = new java.util.ArrayList();
    for (var info of consumer.partitionsFor(name).toArray()) {
        partitions.add(new kafka.common.TopicPartition(name, info.partition()));
    }
    consumer.assign(partitions);
    consumer.seekToBeginning(partitions);
    var ends = consumer.endOffsets(partitions);
    var done = false;
    while (!done) {
        var records = consumer.poll(java.time.Duration.ofMillis(500)).iterator();
        while (!done && records.hasNext()) {
            done = take(records.next()) === true;
        }
        done = done || partitions.toArray().every(function (one) { return consumer.position(one) >= ends.get(one); });
    }
    consumer.close();
}

// The schema under a fingerprint (16 hex digits, as the bytes stand in the message): the first one that was published.
function schemaOf(fingerprint) {
    var found = null;
    readAll("penstock.schemas", function (record) {
        if (String(new java.lang.String(record.key(), "UTF-8")) === fingerprint && record.value() !== null) {
            found = new avro.Schema.Parser().parse(new java.lang.String(record.value(), "UTF-8"));
        }
        return found !== null;
    });
    if (found === null) {
        java.lang.System.err.println("no schema " + fingerprint + " in penstock.schemas");
        java.lang.System.exit(4);
    }
    return found;
}

var decoders = {};
var seen = 0;
readAll(topic, function (record) {
    var value = record.value();
    var fingerprint = String(java.util.HexFormat.of().formatHex(value, 2, 10));
    if (!(fingerprint in decoders)) {
        // Avro's own decoder of single objects: it checks C3 01 and computes the fingerprint of the schema itself
        decoders[fingerprint] = new avro.message.BinaryMessageDecoder(avro.generic.GenericData.get(), schemaOf(fingerprint));
    }
    java.lang.System.out.println(decoders[fingerprint].decode(value).toString());
    seen += 1;
    return seen === count;
});
