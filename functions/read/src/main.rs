//! The Lambda function `read`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("read", hongyan_read::handle).await
}
