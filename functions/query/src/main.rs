//! The Lambda function `query`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("query", hongyan_query::handle).await
}
