//! The Lambda function `query`.

// The future of a page nests deeper than rustc follows by default when it optimises.
#![recursion_limit = "256"]

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("query", hongyan_query::handle).await
}
