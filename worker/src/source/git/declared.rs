//! What a declaration may ask for.

use gix::ObjectId;
use gix::bstr::ByteSlice;
use url::Url;

use super::GitRef;
use crate::source::SourceError;

pub(super) fn check_url(text: &str, credentials: bool) -> Result<Url, SourceError> {
    let field = |reason: &str| SourceError::Field {
        field: "git.url",
        reason: reason.to_owned(),
    };
    let scp_like = !text.contains("://")
        && text
            .split('/')
            .next()
            .is_some_and(|host| host.contains(':'));
    let url = match Url::parse(text) {
        Ok(url) if !scp_like => url,
        _ if scp_like => {
            return Err(field(
                "SSH is not supported; use the https:// URL with git.secretRef",
            ));
        }
        _ => {
            return Err(field(
                "is not a URL; write https://host/path.git or file:///path",
            ));
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(field("holds credentials; move them to git.secretRef"));
    }
    match url.scheme() {
        "https" | "file" => Ok(url),
        "http" if credentials => Err(field(
            "credentials are never sent in clear text; use https://",
        )),
        "http" => Ok(url),
        "ssh" | "git+ssh" => Err(field(
            "SSH is not supported; use the https:// URL with git.secretRef",
        )),
        other => Err(field(&format!(
            "\"{other}\" is not supported; use https:// or file:///"
        ))),
    }
}

pub(super) fn check_reference(reference: &GitRef) -> Result<(), SourceError> {
    let field = |reason: String| SourceError::Field {
        field: "git.ref",
        reason,
    };
    if let GitRef::Commit(id) = reference {
        return match id.len() == 40 && ObjectId::from_hex(id.as_bytes()).is_ok() {
            true => Ok(()),
            false => Err(field(format!(
                "commit \"{id}\" must be all 40 hexadecimal digits"
            ))),
        };
    }
    match gix::validate::reference::name(refspec(reference).as_bytes().as_bstr()) {
        Ok(_) if !refspec(reference).contains('*') => Ok(()),
        Ok(_) => Err(field(format!(
            "{} must name one reference",
            refspec(reference)
        ))),
        Err(error) => Err(field(format!(
            "{} is not a reference name ({error})",
            refspec(reference)
        ))),
    }
}

pub(super) fn refspec(reference: &GitRef) -> String {
    match reference {
        GitRef::Default => "HEAD".to_owned(),
        GitRef::Branch(name) => format!("refs/heads/{name}"),
        GitRef::Tag(name) => format!("refs/tags/{name}"),
        GitRef::Commit(id) => id.clone(),
    }
}
