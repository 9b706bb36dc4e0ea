//! A broker that is still putting up what it is asked about.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Asks again until it has: a topic is listed a moment before it has leaders.
pub fn settled<T>(ask: impl Fn() -> Result<T, KafkaError>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match ask() {
            Err(error) if is_settling(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            outcome => return outcome.unwrap(),
        }
    }
}

pub fn is_settling(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}
