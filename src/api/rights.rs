//! The rights that operations need. Each handler declares its own by its first parameter, which proves the token before
//! anything else of the request is read: `AnyToken<View>` takes tokens of organizations and of applications,
//! `Organization<Edit>` an organization's alone. There is no other way to a [`Caller`].
//!
//! The API document shows the rights: `document::access` reads them from the marks that poem-openapi writes. Must not
//! decide which role or capability may do what: the domain does.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::auth::Authenticator;
use super::caller::Caller;
use super::wire::error::into_poem;
use crate::domain::act::Act;
use crate::error::Result;

/// The name of the security scheme in the API document.
pub(super) const SCHEME: &str = "HTTPBearer";

/// What an operation does, as a type.
pub trait Right: Send + Sync + 'static {
    const ACT: Act;
    /// The mark of operations that take any token. It stands in the place of the security scheme.
    const ANY: &'static str;
    /// The mark of operations that take an organization's token only.
    const ORGANIZATION: &'static str;
}

/// What an application's token may do too.
pub trait OfApplications: Right {}

/// What the mark of an operation says.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub act: Act,
    /// Whether the token must be an organization's.
    pub organization: bool,
}

macro_rules! rights {
    ($($right:ident),+; organizations alone: $($own:ident),+) => {
        $(rights!(@type $right); impl OfApplications for $right {})+
        $(rights!(@type $own);)+

        /// Reads a mark.
        pub(super) fn read(mark: &str) -> Option<Needs> {
            let (act, organization) = match mark {
                $($right::ANY => (Act::$right, false), $right::ORGANIZATION => (Act::$right, true),)+
                $($own::ORGANIZATION => (Act::$own, true),)+
                _ => return None,
            };
            Some(Needs { act, organization })
        }
    };
    (@type $right:ident) => {
        pub struct $right;

        impl Right for $right {
            const ACT: Act = Act::$right;
            const ANY: &'static str = stringify!($right);
            const ORGANIZATION: &'static str = concat!("organization ", stringify!($right));
        }
    };
}

rights! {
    View, RevealSecret, RotateSecret, SendAgain, SwitchEndpoint, Poll, MoveConsumer, EndToken, Edit;
    organizations alone: SendMessage, OpenPortal, Administer
}

/// A caller with a token of any kind that has the right `R`.
pub struct AnyToken<R>(pub Arc<Caller>, PhantomData<R>);

/// A caller with an organization's token that has the right `R`. An application's token gets 403.
pub struct Organization<R>(pub Arc<Caller>, PhantomData<R>);

impl<R> Deref for AnyToken<R> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

/// Proves the token of a request, and that it may do this. `organization` means that it must be an organization's.
///
/// # Errors
/// As [`Authenticator::prove`]; `Forbidden` for a token without the right, or `NotFound` if its application is deleted.
pub(super) async fn prove(request: &Request, act: Act, organization: bool) -> Result<Arc<Caller>> {
    let authenticator = Authenticator::of(request)?;
    let caller = authenticator.prove(request).await?;
    let of_its_kind = if organization {
        caller.check_organization()
    } else {
        Ok(())
    };
    match of_its_kind.and_then(|()| caller.check(act)) {
        Ok(()) => Ok(caller),
        // Before the path is looked at: the response is the same whether or not what it names exists.
        Err(refusal) => Err(Box::pin(authenticator.refuse(&caller, refusal)).await),
    }
}

/// Adds the security scheme to the API document.
fn describe(registry: &mut Registry) {
    let scheme = MetaSecurityScheme {
        ty: "http",
        description: Some("A token made by `app token create`."),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(SCHEME, scheme);
}

/// Makes `$caller` the extractor of operations with the mark `$mark`.
macro_rules! extractor {
    ($caller:ident<$right:ident: $bound:path>, $mark:expr, $organization:expr) => {
        impl<'a, $right: $bound> ApiExtractor<'a> for $caller<$right> {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                describe(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![$mark]
            }

            async fn from_request(
                request: &'a Request,
                _body: &mut RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let proven = prove(request, $right::ACT, $organization).await;
                proven
                    .map(|caller| Self(caller, PhantomData))
                    .map_err(|err| into_poem(&err))
            }
        }
    };
}

extractor!(AnyToken<R: OfApplications>, R::ANY, false);
extractor!(Organization<R: Right>, R::ORGANIZATION, true);
