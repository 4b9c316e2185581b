//! The Lambda function `scheduled-compensator`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("scheduled-compensator", hongyan_scheduled_compensator::handle).await
}
