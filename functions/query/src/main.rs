//! The Lambda function `query`.

// What a page waits for is nested deeper than rustc by default follows when it optimises.
#![recursion_limit = "256"]

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("query", hongyan_query::handle).await
}
