"""Settings of a Kafka that asks who may do what; what no rule is about, anybody may."""

GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
