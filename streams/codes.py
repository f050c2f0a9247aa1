"""What Kafka's error codes mean to us, apart from the clients that meet them: a command need not import those."""

from __future__ import annotations

from confluent_kafka import KafkaError

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
}
DENIED_TRANSACTION = DENIED | {KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}
MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED}
PRODUCER_FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
REFUSED_RECORD = {KafkaError.INVALID_RECORD, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
