//! A client that progenitor makes from the API document while this compiles, against a running server:
//! an application, an endpoint, a message, a list, and errors with their bodies.

use std::env::var;
use std::error::Error;

use made::types::{ApplicationIn, EndpointIn, ErrorDetail, ErrorOut, MessageIn};
use progenitor_client::Error as Refusal;
use reqwest::header::{AUTHORIZATION, HeaderMap};

mod made {
    progenitor::generate_api!(spec = "../../openapi.json", interface = Builder);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {}", var("POSTRIDER_TOKEN")?).parse()?);
    let http = reqwest::Client::builder().default_headers(headers).build()?;
    let client = made::Client::new_with_client(&var("POSTRIDER_URL")?, http);

    let application = ApplicationIn::builder().name("Made by progenitor");
    let application = client.v1_application_create().body(application).send().await?;
    let app = &application.id;
    println!("rust: application {app}, {}", application.status());

    let endpoint = EndpointIn::builder()
        .url("https://webhooks.example/progenitor")
        .disabled(true);
    let endpoint = client.v1_endpoint_create().app_id(app).body(endpoint).send().await?;
    println!("rust: endpoint {}, {}", endpoint.id, endpoint.status());

    let payload = serde_json::from_str::<serde_json::Map<_, _>>(r#"{"total": 1.1}"#)?;
    let message = MessageIn::builder().event_type("order.paid").payload(payload);
    let message = client.v1_message_create().app_id(app).body(message).send().await?;
    println!("rust: message {}, {}", message.id, message.status());

    let list = client.v1_message_list().app_id(app).limit(10).send().await?;
    let ids: Vec<_> = list.data.iter().map(|it| &it.id).collect();
    assert_eq!((ids, list.done), (vec![&message.id], true));
    println!("rust: list of {}", list.data.len());

    let unknown = client.v1_application_get().app_id("unknown").send().await;
    match body_of(unknown.unwrap_err())? {
        (
            404,
            ErrorOut {
                code,
                detail: ErrorDetail::String(text),
            },
        ) => println!("rust: 404 {code}: {text}"),
        other => return Err(format!("{other:?}").into()),
    }
    let refused = client.v1_message_list().app_id(app).iterator("nonsense").send().await;
    match body_of(refused.unwrap_err())? {
        (
            422,
            ErrorOut {
                code,
                detail: ErrorDetail::Array(rules),
            },
        ) => {
            println!("rust: 422 {code}: {}: {}", rules[0].loc.join("."), rules[0].msg);
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

fn body_of(refusal: Refusal<ErrorOut>) -> Result<(u16, ErrorOut), Box<dyn Error>> {
    match refusal {
        Refusal::ErrorResponse(answer) => Ok((answer.status().as_u16(), answer.into_inner())),
        other => Err(other.into()),
    }
}
