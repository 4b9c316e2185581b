//! The Lambda function `send`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("send", hongyan_send::handle).await
}
