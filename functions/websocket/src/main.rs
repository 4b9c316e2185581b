//! The Lambda function `websocket`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("websocket", hongyan_websocket::handle).await
}
