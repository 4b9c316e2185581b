//! The Lambda function `delete`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("delete", hongyan_delete::handle).await
}
