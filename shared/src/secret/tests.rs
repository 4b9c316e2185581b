use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hongyan-AbCdEf";

/// Secrets Manager on a real socket: gives the answers in turn, then repeats the last one, and keeps the requests.
struct Manager {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    async fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = String::new();
                // The body comes last and ends with a brace.
                while !request.ends_with('}') {
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).await.unwrap();
                    request += std::str::from_utf8(&bytes[..read]).unwrap();
                }
                let count = {
                    let mut kept = kept.lock();
                    kept.push(request);
                    kept.len()
                };
                let (status, body) = &answers[count.min(answers.len()) - 1];
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all((head + body).as_bytes()).await.unwrap();
            }
        });
        Self { url, requests }
    }

    async fn settings(&self, variables: &[(&'static str, &str)]) -> Result<Secrets, SecretError> {
        let mut environment = HashMap::from([
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            ("AWS_SESSION_TOKEN", "token".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            (ENDPOINT, self.url.clone()),
        ]);
        environment.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        settings(|name| environment.get(name).cloned()).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// The answer of `GetSecretValue`.
fn holding(secret: &str) -> (&'static str, String) {
    ("200 OK", json!({ "ARN": ARN, "Name": "hongyan", "SecretString": secret }).to_string())
}

#[tokio::test]
async fn settings_come_from_the_secret_by_a_signed_request() {
    let manager = Manager::start(vec![holding(r#"{"REDIS_URL":"rediss://:hunter2@h:6379/0"}"#)]).await;
    let secrets = manager.settings(&[(SETTINGS, ARN)]).await.unwrap();
    assert_eq!(secrets.get("REDIS_URL").as_deref(), Some("rediss://:hunter2@h:6379/0"));
    assert_eq!(secrets.get("MYSQL_URL"), None);

    let [request] = &manager.requests()[..] else { panic!("one request") };
    assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-amz-target: secretsmanager.GetSecretValue\r\n"), "{request}");
    assert!(request.contains("/eu-west-1/secretsmanager/aws4_request"), "{request}");
    assert!(request.contains("x-amz-security-token: token\r\n"), "{request}");
    assert!(request.ends_with(&json!({ "SecretId": ARN }).to_string()), "{request}");
}

#[tokio::test]
async fn kafka_has_its_user_in_a_secret_of_its_own() {
    let manager = Manager::start(vec![holding(r#"{"username":"alice","password":"hunter2"}"#)]).await;
    let secrets = manager.settings(&[(SETTINGS, ""), (KAFKA_SASL, ARN)]).await.unwrap();
    assert_eq!(secrets.get("KAFKA_SASL_USERNAME").as_deref(), Some("alice"));
    assert_eq!(secrets.get("KAFKA_SASL_PASSWORD").as_deref(), Some("hunter2"));
}

#[tokio::test]
async fn nothing_is_asked_where_no_secret_is_named() {
    let manager = Manager::start(vec![holding("{}")]).await;
    assert!(manager.settings(&[]).await.is_ok());
    assert!(manager.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_names_the_variable_and_is_not_repeated() {
    let body = json!({ "__type": "AccessDeniedException", "Message": "not authorized" }).to_string();
    let manager = Manager::start(vec![("400 Bad Request", body)]).await;
    let error = manager.settings(&[(SETTINGS, ARN)]).await.err().unwrap().to_string();
    assert!(error.starts_with("SETTINGS_SECRET_ARN: "), "{error}");
    assert!(error.contains("AccessDeniedException not authorized"), "{error}");
    assert_eq!(manager.requests().len(), 1);
}

#[tokio::test]
async fn a_fault_of_aws_is_tried_again() {
    let fault = ("500 Internal Server Error", "{}".to_owned());
    let manager = Manager::start(vec![fault.clone(), fault, holding("{}")]).await;
    assert!(manager.settings(&[(SETTINGS, ARN)]).await.is_ok());
    assert_eq!(manager.requests().len(), 3);
}

#[tokio::test]
async fn a_secret_of_the_wrong_form_is_refused_without_being_repeated() {
    for (variable, secret) in [
        (SETTINGS, "hunter2"),
        (SETTINGS, r#"{"REDIS_URL":{"password":"hunter2"}}"#),
        (KAFKA_SASL, r#"{"user":"alice","password":"hunter2"}"#),
    ] {
        let manager = Manager::start(vec![holding(secret)]).await;
        let error = manager.settings(&[(variable, ARN)]).await.err().unwrap().to_string();
        assert!(error.starts_with(variable) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn an_arn_of_something_else_and_missing_credentials_are_told() {
    let named = |name: &str| (name == SETTINGS).then(|| ARN.to_owned());
    let error = settings(named).await.err().unwrap().to_string();
    assert!(error.contains("AWS_REGION"), "{error}");

    assert_eq!(usual_endpoint(ARN, "eu-west-1").unwrap(), "https://secretsmanager.eu-west-1.amazonaws.com");
    let china = "arn:aws-cn:secretsmanager:cn-north-1:1:secret:x";
    assert_eq!(
        usual_endpoint(china, "cn-north-1").unwrap(),
        "https://secretsmanager.cn-north-1.amazonaws.com.cn"
    );
    assert!(usual_endpoint("arn:aws:s3:::bucket", "eu-west-1").is_err());
}
