//! Turns the answer of a function into the HTTP response.

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body as EventBody;
use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hongyan::error::ApiError;
use http::{HeaderValue, StatusCode, header};

/// A fault of a function's answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAnswer {
    #[error("{0} is no HTTP status")]
    Status(i64),
    #[error("the body is marked as base64 and is not: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("the body is of an unknown kind")]
    Body,
    #[error("a cookie is not valid in a header")]
    Cookie,
}

/// The HTTP response for the answer of an HTTP function.
pub(super) fn from_function(answer: ApiGatewayV2httpResponse) -> Result<Response, BadAnswer> {
    let status = u16::try_from(answer.status_code).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or(BadAnswer::Status(answer.status_code))?;
    let body = match answer.body {
        None | Some(EventBody::Empty) => Body::empty(),
        Some(EventBody::Text(text)) if answer.is_base64_encoded => Body::from(STANDARD.decode(text)?),
        Some(EventBody::Text(text)) => Body::from(text),
        Some(EventBody::Binary(bytes)) => Body::from(bytes),
        Some(_) => return Err(BadAnswer::Body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        headers.insert(name, value.clone());
    }
    for (name, value) in &answer.multi_value_headers {
        headers.append(name, value.clone());
    }
    for cookie in answer.cookies {
        let cookie = HeaderValue::from_str(&cookie).map_err(|_| BadAnswer::Cookie)?;
        headers.append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The response for a refusal by the gateway itself. It has the same form as refusals by functions.
pub(super) fn problem(error: &ApiError) -> Response {
    from_function(hongyan::http::problem(error)).unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
