//! A consumer like any other: reads the topics from their first record on, and decodes by the registry.
//!
//! Comes in: a bootstrap address, a registry URL, topics. Goes out: decoded records in the order of each partition. It knows
//! nothing of the producer but the Confluent wire format. It runs beside the producer from the start, for the mock
//! cluster forgets old records.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use url::Url;

use super::cell::Cell;
use super::fold::Record;
use crate::error::Kind;
use crate::{Error, Result};

pub(super) struct Reader {
    consumer: StreamConsumer,
    registry: Url,
    http: reqwest::Client,
    schemas: HashMap<u32, Schema>,
}

impl Reader {
    /// `topics`: with their partition counts.
    pub fn open(bootstrap: &str, registry: &Url, topics: &[(String, i32)]) -> Result<Self> {
        let failed = |error: rdkafka::error::KafkaError| {
            Error::new(Kind::KafkaUnavailable, "the demo's consumer cannot start").source(error)
        };
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "demo-reader")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .create()
            .map_err(failed)?;
        let mut partitions = TopicPartitionList::new();
        for (topic, count) in topics {
            for partition in 0..*count {
                partitions.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
            }
        }
        consumer.assign(&partitions).map_err(failed)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Error::new(Kind::Internal, "no HTTP client").source(error))?;
        Ok(Self { consumer, registry: registry.clone(), http, schemas: HashMap::new() })
    }

    /// The next record and its topic.
    pub async fn next(&mut self) -> Result<(String, Record)> {
        loop {
            let (topic, value) = match self.consumer.recv().await {
                Ok(message) => (message.topic().to_owned(), message.payload().map(<[u8]>::to_vec)),
                Err(error) => {
                    return Err(Error::new(Kind::KafkaUnavailable, "the demo's consumer cannot read on")
                        .source(error));
                }
            };
            // Change tables hold no tombstones; another consumer's would be none of ours.
            let Some(value) = value else { continue };
            let record = self.decode(&value).await.map_err(|error| error.during(format!("topic {topic}")))?;
            return Ok((topic, record));
        }
    }

    async fn decode(&mut self, value: &[u8]) -> Result<Record> {
        let foreign = || Error::new(Kind::ReplyUnreadable, "a record is not in Confluent wire format");
        let Some((&[0, id @ ..], mut body)) = value.split_first_chunk::<5>() else { return Err(foreign()) };
        let schema = self.schema(u32::from_be_bytes(id)).await?;
        let unreadable = |error| {
            Error::new(Kind::ReplyUnreadable, "a record cannot be decoded by its schema").source(error)
        };
        let decoded = GenericDatumReader::builder(schema)
            .build()
            .and_then(|reader| reader.read_value(&mut body))
            .map_err(unreadable)?;
        match decoded {
            Value::Record(columns) if body.is_empty() => {
                Ok(Record::new(columns.into_iter().map(|(name, value)| (name, Cell::of(value)))))
            }
            _ => Err(foreign()),
        }
    }

    async fn schema(&mut self, id: u32) -> Result<&Schema> {
        if !self.schemas.contains_key(&id) {
            let schema = self.fetch_schema(id).await?;
            self.schemas.insert(id, schema);
        }
        self.schemas.get(&id).ok_or_else(|| Error::new(Kind::Internal, "a schema was lost"))
    }

    async fn fetch_schema(&self, id: u32) -> Result<Schema> {
        let what = format!("schema {id} of the registry cannot be read");
        let base = self.registry.as_str().trim_end_matches('/');
        let reply = self.http.get(format!("{base}/schemas/ids/{id}")).send().await;
        let unavailable = |error| Error::new(Kind::RegistryUnavailable, what.clone()).source(error);
        let reply = reply.and_then(reqwest::Response::error_for_status).map_err(unavailable)?;
        let reply: serde_json::Value = reply.json().await.map_err(unavailable)?;
        let text = reply.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
        Schema::parse_str(text).map_err(|error| Error::new(Kind::SchemaUnsupported, what).source(error))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_record_is_decoded_by_the_registrys_schema_and_foreign_bytes_are_refused() {
        let schema = r#"{"type":"record","name":"A","fields":[{"name":"header__change_oper","type":"string"},
            {"name":"Id","type":"string"},{"name":"Amount","type":["null","double"],"default":null}]}"#;
        let reply = serde_json::json!({ "schema": schema }).to_string();
        let app = Router::new().route("/schemas/ids/258", get(move || async move { reply }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        crate::salesforce::install_tls();
        let mut reader = Reader::open("127.0.0.1:1", &registry, &[]).unwrap();
        let mut bytes = vec![0, 0, 0, 1, 2];
        bytes.extend_from_slice(b"\x02U\x06001\x00");
        let record = reader.decode(&bytes).await.unwrap();
        assert_eq!(record.header("change_oper"), "U");
        assert_eq!(record.fields[1], ("Amount".to_owned(), Cell::Null));
        for foreign in [&b""[..], b"\x00\x00", b"\x01\x00\x00\x01\x02\x02U", &[0, 0, 0, 1, 2, 2]] {
            assert_eq!(reader.decode(foreign).await.unwrap_err().kind(), Kind::ReplyUnreadable);
        }
        bytes.push(0);
        assert!(reader.decode(&bytes).await.is_err(), "bytes behind the record");
        let unknown = reader.decode(&[0, 0, 0, 0, 9]).await.unwrap_err();
        assert_eq!(unknown.kind(), Kind::RegistryUnavailable);
    }
}
