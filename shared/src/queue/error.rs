//! Errors of Kafka. This module alone decides which are worth another try.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{Retry, Server, ServerError};

/// An error of the Kafka client, with whether trying again can help.
pub fn kafka_error(action: &'static str, error: KafkaError) -> ServerError {
    ServerError { server: Server::Kafka, action, retry: retry(&error), source: Box::new(error) }
}

/// A transient error of Kafka.
pub fn transient(
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ServerError {
    ServerError { server: Server::Kafka, action, retry: Retry::Transient, source: source.into() }
}

/// A permanent error of Kafka.
pub fn permanent(
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ServerError {
    ServerError { server: Server::Kafka, action, retry: Retry::Permanent, source: source.into() }
}

/// Permanent is only an error of the record itself, or of a setting. A missing or forbidden topic is a fault of the
/// installation: Kafka takes the same record once the installation is corrected.
fn retry(error: &KafkaError) -> Retry {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => Retry::Permanent,
        _ => match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessage
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidRecord,
            ) => Retry::Permanent,
            _ => Retry::Transient,
        },
    }
}

/// True if the error is permanent: the record's own fault.
pub fn is_permanent(error: &KafkaError) -> bool {
    retry(error) == Retry::Permanent
}

/// True if the group's coordinator or a partition's leader has just moved or is still loading, as after a start of
/// Kafka. The same request succeeds soon.
pub fn is_settling(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_and_a_leader_that_just_moved_are_asked_again() {
        for (code, expected) in [
            (RDKafkaErrorCode::NotCoordinator, true),
            (RDKafkaErrorCode::NotLeaderForPartition, true),
            (RDKafkaErrorCode::OperationTimedOut, false),
            (RDKafkaErrorCode::TopicAuthorizationFailed, false),
        ] {
            assert_eq!(is_settling(&KafkaError::MetadataFetch(code)), expected, "{code:?}");
        }
    }

    #[test]
    fn only_the_records_own_fault_is_permanent() {
        for (code, expected) in [
            (RDKafkaErrorCode::MessageSizeTooLarge, Retry::Permanent),
            (RDKafkaErrorCode::InvalidRecord, Retry::Permanent),
            (RDKafkaErrorCode::QueueFull, Retry::Transient),
            (RDKafkaErrorCode::MessageTimedOut, Retry::Transient),
            (RDKafkaErrorCode::AllBrokersDown, Retry::Transient),
            (RDKafkaErrorCode::NotEnoughReplicas, Retry::Transient),
            (RDKafkaErrorCode::UnknownPartition, Retry::Transient),
            (RDKafkaErrorCode::TopicAuthorizationFailed, Retry::Transient),
        ] {
            let error = kafka_error("queue.send", KafkaError::MessageProduction(code));
            assert_eq!(error.retry, expected, "{code:?}");
        }
    }
}
