//! Answers in the API's shapes.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// The header with the rate usage of an account.
const BUSINESS_USAGE: &str = "x-business-use-case-usage";

/// The same for the application.
const APPLICATION_USAGE: &str = "x-app-usage";

/// An error in the API's shape; `text` is for people.
pub(super) fn error(status: u16, code: i64, subcode: Option<i64>, text: &str) -> Response {
    error_with(status, code, subcode, text, None)
}

/// The same with what users are to be told.
pub(super) fn error_with(
    status: u16,
    code: i64,
    subcode: Option<i64>,
    text: &str,
    user_message: Option<&str>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut error = json!({
        "message": text,
        "type": if code == 190 { "OAuthException" } else { "IGApiException" },
        "code": code,
        "fbtrace_id": "simulator",
    });
    if let (Some(subcode), Some(fields)) = (subcode, error.as_object_mut()) {
        fields.insert("error_subcode".to_owned(), subcode.into());
    }
    if let (Some(told), Some(fields)) = (user_message, error.as_object_mut()) {
        fields.insert("error_user_msg".to_owned(), told.into());
    }
    (status, Json(json!({ "error": error }))).into_response()
}

/// Refuses an account that is over its rate until `seconds` from now.
pub(super) fn rate_limited(account: &str, seconds: u64) -> Response {
    let mut response = error(400, 80_002, None, "there have been too many calls");
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    // The estimate is in minutes, which a shorter wait would contradict.
    if seconds >= 60 {
        usage(&mut response, account, 100, seconds.div_ceil(60));
    }
    response
}

/// Refuses everybody until `seconds` from now.
pub(super) fn application_limited(seconds: u64) -> Response {
    let mut response = error(403, 4, None, "application request limit reached");
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    application_usage(&mut response, 100);
    response
}

/// Adds the usage of the application's rate, in percent.
pub(super) fn application_usage(response: &mut Response, percent: u32) {
    let usage = json!({ "call_count": percent, "total_cputime": 0, "total_time": 0 });
    if let Ok(value) = HeaderValue::from_str(&usage.to_string()) {
        response.headers_mut().insert(APPLICATION_USAGE, value);
    }
}

/// Adds the usage of an account's rate, in percent, and the minutes it is blocked for.
pub(super) fn usage(response: &mut Response, account: &str, percent: u32, minutes: u64) {
    let usage = json!({
        account: [{
            "type": "instagram",
            "call_count": percent,
            "total_cputime": 0,
            "total_time": 0,
            "estimated_time_to_regain_access": minutes,
        }]
    });
    if let Ok(value) = HeaderValue::from_str(&usage.to_string()) {
        response.headers_mut().insert(BUSINESS_USAGE, value);
    }
}

/// Adds entries of another account and of the account's other products to the usage header, all of them
/// blocked.
pub(super) fn foreign_usage(response: &mut Response, account: &str) {
    let header = response.headers().get(BUSINESS_USAGE);
    let usage = header.and_then(|header| serde_json::from_slice(header.as_bytes()).ok());
    let mut usage: Map<String, Value> = usage.unwrap_or_default();
    let full = |product: &str| {
        json!({
            "type": product,
            "call_count": 100,
            "total_cputime": 100,
            "total_time": 100,
            "estimated_time_to_regain_access": 55,
        })
    };
    let own = usage.entry(account).or_insert_with(|| json!([]));
    if let Some(own) = own.as_array_mut() {
        own.push(full("pages"));
    }
    usage.insert("17840000000000000".to_owned(), json!([full("instagram")]));
    if let Ok(value) = HeaderValue::from_str(&Value::from(usage).to_string()) {
        response.headers_mut().insert(BUSINESS_USAGE, value);
    }
}

/// An answer whose body breaks off, so that the caller never learns what happened.
pub(super) fn lost() -> Response {
    let broken = futures::stream::once(async {
        Err::<Vec<u8>, _>(std::io::Error::other("lost on request"))
    });
    Response::new(Body::from_stream(broken))
}
