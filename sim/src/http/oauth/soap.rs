//! SOAP `login()`, for old clients: user name and password, with the security token behind it if any.
//!
//! Comes in: the envelope. Goes out: a session, or Salesforce's fault. No XML is parsed beyond two elements.

use http::StatusCode;

use crate::http::reply::{Answer, Content};
use crate::http::{Call, Reply, Server, lock};

pub(crate) fn login(server: &Server, call: &Call) -> Reply {
    let body = String::from_utf8_lossy(&call.body).into_owned();
    let between = |tag: &str| -> Option<String> {
        let start = body.find(&format!("{tag}>"))? + tag.len() + 1;
        let end = body.get(start..)?.find("</")?;
        let text = body.get(start..start + end)?;
        let bare = text.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>"));
        Some(bare.unwrap_or(text).to_owned())
    };
    let xml = |status, text: String| Answer {
        status,
        headers: vec![("content-type", "text/xml;charset=UTF-8".to_owned())],
        body: Content::Whole(text.into_bytes()),
        billed: false,
    };
    let known = between("username").as_deref() == Some(server.config.username.as_str())
        && between("password").is_some_and(|given| given.starts_with(&server.config.password));
    if !known {
        return xml(
            StatusCode::INTERNAL_SERVER_ERROR,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:sf=\"urn:fault.partner.soap.sforce.com\"><soapenv:Body><soapenv:Fault><faultcode>INVALID_LOGIN</faultcode><faultstring>INVALID_LOGIN: Invalid username, password, security token; or user locked out.</faultstring><detail><sf:LoginFault><sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode><sf:exceptionMessage>Invalid username, password, security token; or user locked out.</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>".to_owned(),
        );
    }
    let token = lock(&server.logins).issue(server.org.organization_id().as_str(), None, &["full".to_owned()]);
    let (origin, organization) = (server.origin(), server.org.organization_id());
    xml(
        StatusCode::OK,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns=\"urn:partner.soap.sforce.com\"><soapenv:Body><loginResponse><result><metadataServerUrl>{origin}/services/Soap/m/66.0/{org}</metadataServerUrl><passwordExpired>false</passwordExpired><sandbox>false</sandbox><serverUrl>{origin}/services/Soap/u/66.0/{org}</serverUrl><sessionId>{token}</sessionId><userId>{user}</userId><userInfo><organizationId>{org}</organizationId><userId>{user}</userId><userName>{name}</userName></userInfo></result></loginResponse></soapenv:Body></soapenv:Envelope>",
            org = organization.as_str(),
            user = server.org.user_id().as_str(),
            name = server.config.username,
        ),
    )
}
