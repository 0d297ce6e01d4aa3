//! Shows a customer's access to its own application.

use svix::models::{AppPortalAccessIn, ApplicationIn, EndpointIn};

use crate::run::{Run, Shown, client, eventually, new_name, refused};

pub async fn portal_access(run: &Run) -> Shown {
    let (app, other) = (
        run.application("Portal").await?,
        run.application("Another customer").await?,
    );
    let body = AppPortalAccessIn {
        expiry: Some(3600),
        ..AppPortalAccessIn::new()
    };
    let access = run
        .svix
        .authentication()
        .app_portal_access(app.clone(), body, None)
        .await?;
    assert!(access.url.starts_with("http"), "{access:?}");

    let customer = client(&run.url, &access.token);
    let body = EndpointIn::new("https://example.com/webhooks".to_owned());
    let own = customer.endpoint().create(app.clone(), body, None).await?;
    assert_eq!(customer.endpoint().list(app.clone(), None).await?.data, [own]);
    assert_eq!(customer.application().get(app.clone()).await?.id, app);
    assert_eq!(refused(customer.application().list(None).await)?.0, 403);
    assert_eq!(refused(customer.endpoint().list(other, None).await)?.0, 404);

    customer.authentication().logout(None).await?;
    let read = async || Ok(refused(customer.endpoint().list(app.clone(), None).await).ok());
    let (status, _) = eventually(read, Option::is_some)
        .await?
        .ok_or("the token still opens")?;
    assert_eq!(status, 401);
    Ok("a customer's token opens only the customer's own application, until it logs out")
}

pub async fn portal_application(run: &Run) -> Shown {
    let uid = new_name("customer");
    let application = ApplicationIn {
        uid: Some(uid.clone()),
        ..ApplicationIn::new("New customer".to_owned())
    };
    let body = AppPortalAccessIn {
        application: Some(application),
        ..AppPortalAccessIn::new()
    };
    let access = run
        .svix
        .authentication()
        .app_portal_access(uid.clone(), body, None)
        .await?;
    assert_eq!(
        client(&run.url, &access.token).application().get(uid).await?.name,
        "New customer"
    );
    Ok("portal access creates an application that does not exist yet")
}
