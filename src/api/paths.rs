//! Compares the paths of requests with templates of routes.
//!
//! Must not know a route.

/// Returns whether a path matches a template. `{name}` stands for any step of the path, even an empty one, as in the
/// routes of poem; `{}` for a step that is not empty; a `*` at the end for any number of steps, even none.
pub fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some("*"), _) => return true,
            (Some("{}"), Some("")) => return false,
            (Some(step), Some(text)) if step.starts_with('{') || step == text => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_its_template_alone() {
        assert!(fits("/api/v1/app/{app_id}", "/api/v1/app/x"));
        for other in ["/api/v1/app", "/api/v1/app/x/y", "/api/v1/apple/x"] {
            assert!(!fits("/api/v1/app/{app_id}", other), "{other}");
        }
    }

    #[test]
    fn an_empty_step_fits_a_name_alone() {
        assert!(fits("/app/{app_id}/msg", "/app//msg"));
        assert!(!fits("/app/{}/msg", "/app//msg"));
    }

    #[test]
    fn a_star_fits_any_number_of_steps() {
        for path in ["/stream", "/stream/a", "/stream/a/b"] {
            assert!(fits("/stream/*", path), "{path}");
        }
        assert!(!fits("/stream/*", "/streams"));
    }
}
