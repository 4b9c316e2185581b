//! The Lambda function `kafka-consumer`.

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    hongyan::lambda::run("kafka-consumer", hongyan_kafka_consumer::handle).await
}
