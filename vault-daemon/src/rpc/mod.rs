//! The wire: one file per gRPC service, one map from errors to statuses.
//!
//! A handler checks its message into a core request, asks the lane, and turns the outcome into a message. It
//! decides nothing: not who may do what, not what is entered in the log.

mod apart;
mod audit;
mod batches;
mod calls;
mod custody;
mod health;
mod keys;
pub mod status;
mod tokenization;
mod values;

pub use calls::{Calls, Deadlines};

use tonic_health::pb::health_server::HealthServer;
use vault_core::limits::{BATCH_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX};
use vault_proto::v1::audit_server::AuditServer;
use vault_proto::v1::batches_server::BatchesServer;
use vault_proto::v1::custody_server::CustodyServer;
use vault_proto::v1::keys_server::KeysServer;
use vault_proto::v1::tokenization_server::TokenizationServer;

use crate::server::Routes;

/// All services of the vault, with their message bounds. No compression: a bound on bytes is a bound on
/// memory.
pub fn routes(calls: &Calls) -> Routes {
    macro_rules! bounded {
        ($server:ident, $bytes:expr) => {
            $server::new(calls.clone()).max_decoding_message_size($bytes).max_encoding_message_size($bytes)
        };
    }
    Routes::default()
        .add_service(bounded!(TokenizationServer, MESSAGE_BYTES_MAX))
        .add_service(bounded!(BatchesServer, BATCH_MESSAGE_BYTES_MAX))
        .add_service(bounded!(AuditServer, MESSAGE_BYTES_MAX))
        .add_service(bounded!(CustodyServer, MESSAGE_BYTES_MAX))
        .add_service(bounded!(KeysServer, MESSAGE_BYTES_MAX))
        .add_service(
            HealthServer::new(health::HealthOf::new(calls.custody.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
}
