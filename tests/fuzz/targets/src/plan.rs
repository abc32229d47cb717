//! The plan of a container, and the controller's own look at it.

use berth_controller::readers::check_plan;
use berth_schemas::controller::LaunchPlan;

/// Reads `data` as a plan.
pub fn run(data: &[u8]) {
    let Ok(plan) = serde_json::from_slice::<LaunchPlan>(data) else { return };
    let bytes = serde_json::to_vec(&plan).unwrap_or_else(|e| panic!("{e}"));
    match serde_json::from_slice::<LaunchPlan>(&bytes) {
        Ok(again) => assert_eq!(again, plan),
        Err(e) => panic!("own plan refused: {e}"),
    }
    if check_plan(&plan).is_err() {
        return;
    }
    assert_eq!(plan.version, berth_schemas::LAUNCH_PLAN_VERSION);
    assert!(berth_schemas::name::DomainName::parse(&plan.name).is_ok());
    let paths = [&plan.root.source, &plan.init.path, &plan.exit_record].into_iter();
    let paths = paths.chain(plan.filesystems.iter().map(|f| &f.target));
    let paths = paths.chain(&plan.masked_paths).chain(&plan.readonly_paths);
    for path in paths {
        assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
    }
    for range in plan.id_map.iter().flat_map(|m| m.uids.iter().chain(&m.gids)) {
        let end = |first: i64| first.checked_add(range.count).is_some_and(|end| end <= i64::from(u32::MAX));
        assert!(range.count > 0 && range.inside >= 0 && range.host >= 0, "{range:?}");
        assert!(end(range.inside) && end(range.host), "{range:?}");
    }
}
