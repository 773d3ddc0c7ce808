//! DeleteTopics, by name or by id.
use alloc::vec::Vec;
use tidemill_protocol::{
    api::delete_topics::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse},
    error_code::ErrorCode,
    ids::Uuid,
};

use super::Pending;
use crate::{
    context::{Context, Requester, Waiter},
    entry::Command,
};

pub(crate) fn handle(ctx: &mut Context<'_>, from: Requester, request: DeleteTopicsRequest) {
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState {
        name: Some(name),
        ..DeleteTopicState::default()
    });
    let mut response = DeleteTopicsResponse::default();
    let mut slots = Vec::new();
    let mut ids: Vec<Uuid> = Vec::new();
    for asked in request.topics.into_iter().chain(named) {
        let topic = match &asked.name {
            Some(name) => ctx.state.topics.get(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            None => ctx
                .state
                .topics
                .get_by_id(&asked.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
        };
        let mut result = DeletableTopicResult {
            name: asked.name,
            topic_id: asked.topic_id,
            ..DeletableTopicResult::default()
        };
        match topic {
            Ok(topic) if topic.is_internal() => result.error_code = ErrorCode::INVALID_TOPIC_EXCEPTION,
            Ok(topic) if ids.contains(&topic.id) => result.error_code = ErrorCode::INVALID_REQUEST,
            Ok(topic) => {
                result.name = Some(topic.name.clone());
                result.topic_id = topic.id;
                slots.push(response.responses.len());
                ids.push(topic.id);
            }
            Err(error) => result.error_code = error,
        }
        response.responses.push(result);
    }
    if ids.is_empty() {
        return ctx.respond(from, response.into());
    }
    ctx.propose(
        Command::DeleteTopics(ids),
        Waiter::Request(from, Pending::DeleteTopics(response, slots)),
    );
}
