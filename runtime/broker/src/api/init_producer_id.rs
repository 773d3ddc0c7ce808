//! InitProducerId: an identity for an idempotent producer. Without a transactional id every call gives a new one, as in Kafka.
use tidemill_protocol::{
    api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse},
    error_code::ErrorCode,
};

use super::Pending;
use crate::{
    context::{Context, Requester, Waiter},
    entry::Command,
};

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: &InitProducerIdRequest) {
    if request.transactional_id.is_some() {
        // Transactions come later; this is the error that clients do not retry.
        let response = InitProducerIdResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Default::default()
        };
        return ctx.respond(from, response.into());
    }
    let pending = Pending::InitProducerId(InitProducerIdResponse::default());
    ctx.propose(Command::InitProducerId(()), Waiter::Request(from, pending));
}
