//! The Lambda function `recall`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("recall", hongyan_recall::handle).await
}
