//! The request of a send, parsed once.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use hongyan::error::ApiError;
use hongyan::http;
use hongyan::id::UserId;
use hongyan::message::{ClientMessageId, MessageType};
use serde::Deserialize;

/// A valid request: two different users, content within its bounds.
pub(crate) struct SendRequest {
    pub(crate) from: UserId,
    pub(crate) to: UserId,
    pub(crate) kind: MessageType,
    pub(crate) content: String,
    pub(crate) client_msg_id: Option<ClientMessageId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    to_id: UserId,
    content: String,
    #[serde(default = "text")]
    msg_type: MessageType,
    #[serde(default)]
    client_msg_id: Option<ClientMessageId>,
}

fn text() -> MessageType {
    MessageType::TEXT
}

impl SendRequest {
    pub(crate) fn parse(
        event: &ApiGatewayV2httpRequest,
        caller: UserId,
        max_content_bytes: usize,
    ) -> Result<Self, ApiError> {
        let body: Body = http::json_body(event)?;
        if body.to_id == caller {
            return Err(ApiError::InvalidRequest("toId must be another user than the sender".to_owned()));
        }
        if body.content.is_empty() {
            return Err(ApiError::InvalidRequest("content must not be empty".to_owned()));
        }
        if body.content.len() > max_content_bytes {
            return Err(ApiError::ContentTooLarge { max_bytes: max_content_bytes });
        }
        Ok(Self {
            from: caller,
            to: body.to_id,
            kind: body.msg_type,
            content: body.content,
            client_msg_id: body.client_msg_id,
        })
    }
}
