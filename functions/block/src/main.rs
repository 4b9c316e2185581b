//! The Lambda function `block`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("block", hongyan_block::handle).await
}
