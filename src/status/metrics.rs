//! All metric names, and the text that Prometheus reads.
//!
//! Comes in: the board. Goes out: the exposition format, version 0.0.4. A metric is added here and in
//! `docs/operating.md`, nowhere else; a test compares the two.

use std::fmt::Write as _;

use super::process::Process;
use super::{Board, Phase};

pub struct Family {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
}

const fn family(name: &'static str, kind: &'static str, help: &'static str) -> Family {
    Family { name, kind, help }
}

const RECORDS: Family = family(
    "sf2kafka_records_published_total",
    "counter",
    "Records committed to Kafka, by object, output topic and operation.",
);
const LAG: Family = family(
    "sf2kafka_lag_seconds",
    "gauge",
    "Age of the moment up to which everything committed in Salesforce has been published.",
);
const STATE: Family =
    family("sf2kafka_object_state", "gauge", "1 for the state an object is in, 0 for all others.");
const RETRY: Family = family(
    "sf2kafka_object_retry_timestamp_seconds",
    "gauge",
    "When an object that stands on an error is tried again, in seconds since 1970.",
);
const LOAD_ROWS: Family =
    family("sf2kafka_load_rows", "gauge", "Rows read by the current or last full load of an object.");
const LOAD_EXPECTED: Family =
    family("sf2kafka_load_rows_expected", "gauge", "Rows that full load is expected to bring.");
const DEAD_LETTERS: Family =
    family("sf2kafka_dead_letters_total", "counter", "Records that went to the dead-letter topic.");
const REPEATED: Family = family(
    "sf2kafka_repeated_events_total",
    "counter",
    "Platform events that Salesforce delivered again and that were dropped.",
);
const CONTACT: Family = family(
    "sf2kafka_last_contact_timestamp_seconds",
    "gauge",
    "When Salesforce last answered for an object, in seconds since 1970.",
);
const CALLS: Family =
    family("sf2kafka_api_calls_total", "counter", "Calls made to Salesforce, by API and purpose.");
const ALLOWANCE: Family = family(
    "sf2kafka_api_allowance_used_ratio",
    "gauge",
    "Share of the org's daily calls that is used, by whomever.",
);
const BUDGET: Family = family(
    "sf2kafka_api_budget_calls",
    "gauge",
    "Calls of 24 hours that this instance may make: its shards' part of the daily share.",
);
const SPENT: Family = family(
    "sf2kafka_api_budget_spent_calls",
    "gauge",
    "Calls of the last 24 hours that were charged to this instance's shards, by what goes first.",
);
const WAITING: Family = family(
    "sf2kafka_api_calls_waiting",
    "gauge",
    "Calls that wait for the org's daily allowance, by purpose.",
);
const GAPS: Family = family(
    "sf2kafka_gaps_total",
    "counter",
    "Stretches whose changes could not be captured and were read again, by object and reason.",
);
const TRANSACTIONS: Family =
    family("sf2kafka_transactions_total", "counter", "Kafka transactions by their result.");
const TRANSACTION_SECONDS: Family =
    family("sf2kafka_transaction_seconds", "histogram", "From the begin of a transaction to its commit.");
const END_TO_END: Family = family(
    "sf2kafka_end_to_end_seconds",
    "histogram",
    "From a change's commit in Salesforce to its commit in Kafka; loaded rows are left out.",
);
const ERRORS: Family = family("sf2kafka_errors_total", "counter", "Errors met, by code.");
const QUEUED_RECORDS: Family =
    family("sf2kafka_kafka_queued_records", "gauge", "Records that wait in the Kafka client's queue.");
const QUEUED_BYTES: Family =
    family("sf2kafka_kafka_queued_bytes", "gauge", "Bytes that wait in the Kafka client's queue.");
const SENT_RECORDS: Family =
    family("sf2kafka_kafka_sent_records_total", "counter", "Records the Kafka client has sent.");
const SENT_BYTES: Family =
    family("sf2kafka_kafka_sent_bytes_total", "counter", "Bytes the Kafka client has sent.");
const FAILED_REQUESTS: Family =
    family("sf2kafka_kafka_failed_requests_total", "counter", "Requests to brokers that failed.");
const ROUND_TRIP: Family = family(
    "sf2kafka_kafka_round_trip_seconds",
    "gauge",
    "Average time a broker took to answer, over the last statistics interval.",
);
const RESIDENT: Family =
    family("process_resident_memory_bytes", "gauge", "Memory of the process that is in RAM.");
const VIRTUAL: Family = family("process_virtual_memory_bytes", "gauge", "Address space of the process.");
const CPU: Family =
    family("process_cpu_seconds_total", "counter", "Processor time of the process, user and system.");
const FILES: Family = family("process_open_fds", "gauge", "Open file descriptors of the process.");
const THREADS: Family = family("process_threads", "gauge", "Threads of the process.");
const STARTED: Family =
    family("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.");

/// Every metric there is, in the order of the text.
pub const ALL: &[&Family] = &[
    &RECORDS,
    &LAG,
    &STATE,
    &RETRY,
    &LOAD_ROWS,
    &LOAD_EXPECTED,
    &DEAD_LETTERS,
    &REPEATED,
    &CONTACT,
    &CALLS,
    &ALLOWANCE,
    &BUDGET,
    &SPENT,
    &WAITING,
    &GAPS,
    &TRANSACTIONS,
    &TRANSACTION_SECONDS,
    &END_TO_END,
    &ERRORS,
    &QUEUED_RECORDS,
    &QUEUED_BYTES,
    &SENT_RECORDS,
    &SENT_BYTES,
    &FAILED_REQUESTS,
    &ROUND_TRIP,
    &RESIDENT,
    &VIRTUAL,
    &CPU,
    &FILES,
    &THREADS,
    &STARTED,
];

/// The whole text. A family without samples still has its head, so that dashboards find it.
pub fn render(board: &Board) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    objects(board, &mut text);
    process_wide(board, &mut text);
    process(board, &mut text);
    text.0
}

fn objects(board: &Board, text: &mut Text) {
    let snapshot = board.snapshot();
    text.head(&RECORDS);
    for status in board.handles() {
        for (output, operation, count) in &status.lock().published {
            let labels =
                [("object", status.name()), ("output", output.as_ref()), ("operation", operation.letter())];
            text.sample(&RECORDS, &labels, *count as f64);
        }
    }
    text.head(&LAG);
    for object in &snapshot.objects {
        text.optional(&LAG, &[("object", &object.object)], object.lag_seconds);
    }
    text.head(&STATE);
    for object in &snapshot.objects {
        for phase in Phase::ALL {
            let labels = [("object", object.object.as_str()), ("state", phase.word())];
            text.sample(&STATE, &labels, f64::from(u8::from(object.phase == phase)));
        }
    }
    text.head(&RETRY);
    for object in &snapshot.objects {
        let again_at = object.error.as_ref().and_then(|error| error.again_at);
        text.optional(&RETRY, &[("object", &object.object)], again_at.map(|at| at.0 as f64 / 1_000.0));
    }
    text.head(&LOAD_ROWS);
    for object in &snapshot.objects {
        text.sample(&LOAD_ROWS, &[("object", &object.object)], object.rows_loaded as f64);
    }
    text.head(&LOAD_EXPECTED);
    for object in &snapshot.objects {
        let expected = object.rows_expected.map(|rows| rows as f64);
        text.optional(&LOAD_EXPECTED, &[("object", &object.object)], expected);
    }
    text.head(&DEAD_LETTERS);
    for object in &snapshot.objects {
        text.sample(&DEAD_LETTERS, &[("object", &object.object)], object.dead_letters as f64);
    }
    text.head(&REPEATED);
    for status in board.handles() {
        text.sample(&REPEATED, &[("object", status.name())], status.lock().repeated as f64);
    }
    text.head(&CONTACT);
    for object in &snapshot.objects {
        let contact = object.last_contact.map(|at| at.0 as f64 / 1_000.0);
        text.optional(&CONTACT, &[("object", &object.object)], contact);
    }
}

fn process_wide(board: &Board, text: &mut Text) {
    let counters = board.counters();
    text.head(&CALLS);
    for ((api, purpose), count) in &counters.calls {
        text.sample(&CALLS, &[("api", api), ("purpose", purpose)], *count as f64);
    }
    text.head(&ALLOWANCE);
    text.optional(&ALLOWANCE, &[], counters.allowance_used);
    let budget = counters.budget.clone().unwrap_or_default();
    text.head(&BUDGET);
    text.optional(&BUDGET, &[], budget.limit.map(|limit| limit as f64));
    text.head(&SPENT);
    for (class, spent) in &budget.by_class {
        text.sample(&SPENT, &[("class", class)], *spent as f64);
    }
    text.head(&WAITING);
    for waiting in &budget.waiting {
        text.sample(&WAITING, &[("purpose", waiting.purpose)], waiting.calls as f64);
    }
    text.head(&GAPS);
    for ((object, reason), count) in &counters.gaps {
        text.sample(&GAPS, &[("object", object), ("reason", reason)], *count as f64);
    }
    text.head(&TRANSACTIONS);
    for (result, count) in &counters.transactions {
        text.sample(&TRANSACTIONS, &[("result", result)], *count as f64);
    }
    text.head(&TRANSACTION_SECONDS);
    counters.transaction_seconds.render(TRANSACTION_SECONDS.name, &mut text.0);
    text.head(&END_TO_END);
    counters.end_to_end_seconds.render(END_TO_END.name, &mut text.0);
    text.head(&ERRORS);
    for (code, count) in &counters.errors {
        text.sample(&ERRORS, &[("code", code)], *count as f64);
    }
    type Number = fn(&super::KafkaCounters) -> f64;
    let numbers: [(&Family, Number); 6] = [
        (&QUEUED_RECORDS, |kafka| kafka.queued_records as f64),
        (&QUEUED_BYTES, |kafka| kafka.queued_bytes as f64),
        (&SENT_RECORDS, |kafka| kafka.sent_records as f64),
        (&SENT_BYTES, |kafka| kafka.sent_bytes as f64),
        (&FAILED_REQUESTS, |kafka| kafka.failed_requests as f64),
        (&ROUND_TRIP, |kafka| kafka.round_trip_micros as f64 / 1e6),
    ];
    for (family, number) in numbers {
        text.head(family);
        for (client, kafka) in &counters.kafka {
            text.sample(family, &[("client", client)], number(kafka));
        }
    }
}

fn process(board: &Board, text: &mut Text) {
    let process = Process::read();
    let numbers = [
        (&RESIDENT, process.resident_bytes.map(|bytes| bytes as f64)),
        (&VIRTUAL, process.virtual_bytes.map(|bytes| bytes as f64)),
        (&CPU, process.cpu_seconds),
        (&FILES, process.open_files.map(|files| files as f64)),
        (&THREADS, process.threads.map(|threads| threads as f64)),
        (&STARTED, Some(board.snapshot().started_at.0 as f64 / 1_000.0)),
    ];
    for (family, number) in numbers {
        text.head(family);
        text.optional(family, &[], number);
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn optional(&mut self, family: &Family, labels: &[(&str, &str)], number: Option<f64>) {
        if let Some(number) = number {
            self.sample(family, labels, number);
        }
    }

    fn sample(&mut self, family: &Family, labels: &[(&str, &str)], number: f64) {
        self.0.push_str(family.name);
        for (place, (label, value)) in labels.iter().enumerate() {
            self.0.push(if place == 0 { '{' } else { ',' });
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {number}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Operation;
    use crate::status::{Tally, now};

    #[test]
    fn what_was_committed_and_called_stands_in_the_text() {
        let board = Board::new();
        let mut tally = Tally::default();
        tally.change(Operation::Insert, now());
        tally.record(&"crm.Account".into(), Operation::Insert);
        board.committed("Account", &tally);
        board.transaction_committed(Duration::from_millis(30));
        board.called("bulk", "load");
        board.allowance(150, 1_000);
        board.object("Odd\"name\n");
        let sick = board.object("Sick");
        let error = crate::Error::new(crate::error::Kind::ObjectForbidden, "object Sick may not be read");
        sick.failed(&error, tokio::time::Instant::now() + Duration::from_secs(300), true);
        let text = render(&board);
        let retry = "sf2kafka_object_retry_timestamp_seconds{object=\"Sick\"} ";
        let again_at: f64 = text.lines().find_map(|line| line.strip_prefix(retry)).unwrap().parse().unwrap();
        assert!(again_at > now().0 as f64 / 1_000.0 + 200.0, "{again_at}");
        assert!(text.contains("sf2kafka_object_state{object=\"Sick\",state=\"failed\"} 1\n"), "{text}");
        for line in [
            "sf2kafka_records_published_total{object=\"Account\",output=\"crm.Account\",operation=\"I\"} 1",
            "sf2kafka_object_state{object=\"Account\",state=\"waiting\"} 1",
            "sf2kafka_object_state{object=\"Odd\\\"name\\n\",state=\"waiting\"} 1",
            "sf2kafka_api_calls_total{api=\"bulk\",purpose=\"load\"} 1",
            "sf2kafka_api_allowance_used_ratio 0.15",
            "sf2kafka_transactions_total{result=\"committed\"} 1",
            "sf2kafka_transaction_seconds_bucket{le=\"0.05\"} 1",
            "sf2kafka_end_to_end_seconds_count 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn operating_names_every_metric_with_its_type_and_no_other() {
        let text = include_str!("../../docs/operating.md");
        let documented: std::collections::BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .filter(|(name, _)| name.starts_with("sf2kafka_") || name.starts_with("process_"))
            .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
            .collect();
        assert_eq!(documented, ALL.iter().map(|family| (family.name, family.kind)).collect());
    }

    #[test]
    fn every_family_has_one_head_and_every_sample_belongs_to_the_family_above_it() {
        let text = render(&Board::new());
        let mut heads = Vec::new();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                heads.push(head.split(' ').next().unwrap());
            } else if !line.starts_with('#') {
                assert!(line.starts_with(heads.last().unwrap()), "{line}");
            }
        }
        assert_eq!(heads, ALL.iter().map(|family| family.name).collect::<Vec<_>>());
    }
}
