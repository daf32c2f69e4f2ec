"""The one table of what becomes of every field of the messages decoded here.

A test walks the messages' descriptors and fails when a field is in no class, so a new version of xds-protos cannot
add one that is silently dropped. The words of treatment.py: honoured (read by a decoder), parts (read, with
limitations of their own), ignored (for a reason that holds for every value), and limited by effect: refused (it may
change where a connection goes, whether it may, or its bytes), unenforced (a protection beside routing) and
approximated. These are for connections decided at connect; some are in the model as well, for those that will not be
(kmesh.model.listener.Normalization). What routes ask for are features: kmesh.model.route_features says what becomes
of each.
"""

from __future__ import annotations

from collections.abc import Mapping

from kmesh.xds.resources.treatment import Treatment, treat

__all__ = ["FIELDS"]

_REPORTS = "only names or reports, it steers nothing"
_NO_SOCKET = "a setting of a proxy's listening socket, and there is none"
_NO_BUFFER = "a setting of a proxy's buffers, and no proxy holds bytes"
_NO_HOP = "describes a proxy hop in headers or replies of its own, and there is no hop"
_NO_CODEC = "how a proxy writes HTTP anew, and bytes go on as they came, but for what routes change"
_BROKEN_ENDS = "what is read here and is no request ends its connection, as Envoy's default has it"
_END_TO_END = "upgrades and bodies pass end to end"
_OWN_POOLS = "how many connections a pool opens ahead, and pools here have a rule of their own"
_RING = "the shape of a hash ring: a connection without a hash policy draws from it by weight"
_APPROXIMATE_ALREADY = "refines a policy that is approximated as a whole"
_OWN_QUERIES = "the resolver spreads and retries its queries by rules of its own"
_LOCAL_CLUSTER = "takes effect with a local cluster only, which is a setting of an Envoy's bootstrap"

_LISTENER: Mapping[str, Treatment] = {
    "envoy.config.listener.v3.Listener": treat(
        "name address additional_addresses use_original_dst deprecated_v1 udp_listener_config traffic_direction"
        " bind_to_port listener_filters_timeout continue_on_listener_filters_timeout",
        parts="filter_chains default_filter_chain listener_filters",
        present="api_listener internal_listener",
        ignored={
            _REPORTS: "stat_prefix metadata access_log",
            _NO_SOCKET: "drain_type freebind transparent socket_options tcp_fast_open_queue_length reuse_port"
            " enable_reuse_port connection_balance_config tcp_backlog_size enable_mptcp"
            " max_connections_to_accept_per_socket_event ignore_global_conn_limit bypass_overload_manager",
            _NO_BUFFER: "per_connection_buffer_limit_bytes",
        },
        refused="fcds_config filter_chain_matcher",
    ),
    "envoy.config.listener.v3.AdditionalAddress": treat("address", ignored={_NO_SOCKET: "socket_options"}),
    "envoy.config.listener.v3.Listener.DeprecatedV1": treat("bind_to_port"),
    "envoy.config.listener.v3.UdpListenerConfig": treat(
        ignored={_NO_SOCKET: "downstream_socket_config udp_packet_packet_writer_config"}, refused="quic_options"
    ),
    "envoy.config.listener.v3.ListenerFilter": treat(
        "typed_config", present="config_discovery filter_disabled", ignored={_REPORTS: "name"}
    ),
    "envoy.config.listener.v3.FilterChain": treat(
        "name transport_socket",
        parts="filter_chain_match filters",
        ignored={_REPORTS: "metadata"},
        refused="use_proxy_proto",
        unenforced="transport_socket_connect_timeout",
    ),
    "envoy.config.listener.v3.FilterChainMatch": treat(
        "destination_port prefix_ranges address_suffix suffix_len direct_source_prefix_ranges source_type"
        " source_prefix_ranges source_ports server_names transport_protocol application_protocols"
    ),
    "envoy.config.listener.v3.Filter": treat("name typed_config", present="config_discovery"),
}

_NETWORK_FILTERS: Mapping[str, Treatment] = {
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": treat(
        "cluster weighted_clusters",
        present="hash_policy",
        ignored={
            _REPORTS: "stat_prefix access_log access_log_flush_interval flush_access_log_on_connected"
            " access_log_options",
            _NO_BUFFER: "max_early_data_bytes",
        },
        refused="on_demand metadata_match tunneling_config proxy_protocol_tlvs",
        unenforced="idle_timeout downstream_idle_timeout upstream_idle_timeout max_connect_attempts backoff_options"
        " max_downstream_connection_duration max_downstream_connection_duration_jitter_percentage"
        " upstream_connect_mode",
    ),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster": treat("clusters"),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight": treat(
        "name weight", refused="metadata_match"
    ),
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig": treat(
        "cluster",
        parts="matcher",
        ignored={
            _REPORTS: "stat_prefix access_log proxy_access_log access_log_options",
            _NO_SOCKET: "upstream_socket_config",
            "datagrams leave from the application's own socket": "use_original_src_ip",
        },
        refused="hash_policies session_filters tunneling_config",
        unenforced="idle_timeout",
        approximated="use_per_packet_load_balancing",
    ),
    "envoy.extensions.filters.udp.udp_proxy.v3.Route": treat("cluster"),
    "xds.type.matcher.v3.Matcher": treat("on_no_match", refused="matcher_list matcher_tree"),
    "xds.type.matcher.v3.Matcher.OnMatch": treat(
        "action", ignored={"one action only: nothing is left to go on to": "keep_matching"}, refused="matcher"
    ),
    "xds.core.v3.TypedExtensionConfig": treat("typed_config", ignored={_REPORTS: "name"}),
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": treat(
        "codec_type rds path_with_escaped_slashes_action http_protocol_options",
        parts="route_config http_filters upgrade_configs",
        ignored={
            _REPORTS: "stat_prefix tracing access_log access_log_flush_interval flush_access_log_on_new_request"
            " access_log_options",
            _NO_HOP: "add_user_agent server_name server_header_transformation use_remote_address"
            " xff_num_trusted_hops internal_address_config skip_xff_append via generate_request_id"
            " preserve_external_request_id always_set_request_id_in_response request_id_extension"
            " represent_ipv4_remote_address_as_ipv4_mapped_ipv6 local_reply_config proxy_status_config"
            " append_x_forwarded_port append_local_overload add_proxy_protocol_connection_state",
            "HTTP/2 is not read: its bytes pass end to end, or its connection is closed": "http2_protocol_options",
            "refines max_connection_duration, which is reported itself": "http1_safe_max_connection_duration",
            "interim answers are the server's, and go on to who asked for them": "proxy_100_continue",
            _BROKEN_ENDS: "stream_error_on_invalid_http_message",
        },
        refused="scoped_routes http3_protocol_options scheme_header_transformation original_ip_detection_extensions"
        " early_header_mutation_extensions strip_matching_host_port strip_any_host_port strip_trailing_host_dot"
        " typed_header_validation_config",
        unenforced="common_http_protocol_options max_request_headers_kb stream_idle_timeout stream_flush_timeout"
        " request_timeout request_headers_timeout drain_timeout delayed_close_timeout forward_client_cert_details"
        " set_current_client_cert_details forward_client_cert_matcher normalize_path merge_slashes"
        " path_normalization_options",
    ),
    "envoy.config.core.v3.Http1ProtocolOptions": treat(
        "accept_http_10 default_host_for_http_10",
        present="allow_absolute_url",
        ignored={
            _NO_CODEC: "header_key_format enable_trailers",
            _BROKEN_ENDS: "override_stream_error_on_invalid_http_message",
            "about requests to servers, and a connection manager takes those of clients": "send_fully_qualified_url",
            "chooses among Envoy's parsers": "use_balsa_parser",
        },
        unenforced="allow_chunked_length allow_custom_methods ignore_http_11_upgrade",
    ),
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds": treat("config_source route_config_name"),
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig": treat(
        parts="filters", ignored={_END_TO_END: "upgrade_type enabled"}
    ),
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": treat(
        "typed_config disabled is_optional", present="config_discovery", ignored={_REPORTS: "name"}
    ),
    "envoy.extensions.filters.http.router.v3.Router": treat(
        parts="upstream_http_filters",
        ignored={
            _REPORTS: "dynamic_stats start_child_span upstream_log upstream_log_options"
            " suppress_grpc_request_failure_code_stats",
            _NO_HOP: "suppress_envoy_headers respect_expected_rq_timeout",
        },
        refused="strict_check_headers",
    ),
    "envoy.config.core.v3.ConfigSource": treat(
        present="ads self",
        ignored={
            "about xdstp names, which are not asked for": "authorities",
            "the version is 3": "resource_api_version",
            "the wait for a first resource is the client's": "initial_fetch_timeout",
        },
        refused="path path_config_source api_config_source",
    ),
}

_ROUTES: Mapping[str, Treatment] = {
    "envoy.config.route.v3.RouteConfiguration": treat(
        "name ignore_port_in_host_matching ignore_path_parameters_in_path_matching"
        " max_direct_response_body_size_bytes most_specific_header_mutations_wins",
        parts="virtual_hosts",
        ignored={
            _REPORTS: "metadata",
            "a cluster that does not exist refuses its connections": "validate_clusters",
            "used only by the routes that name it": "cluster_specifier_plugins",
        },
        features="vhds internal_only_headers response_headers_to_add response_headers_to_remove"
        " request_headers_to_add request_headers_to_remove request_mirror_policies vhost_header"
        " typed_per_filter_config",
    ),
    "envoy.config.route.v3.VirtualHost": treat(
        "name domains",
        parts="routes",
        present="retry_policy",
        ignored={_REPORTS: "virtual_clusters metadata"},
        features="matcher require_tls rate_limits request_headers_to_add request_headers_to_remove"
        " response_headers_to_add response_headers_to_remove cors typed_per_filter_config request_mirror_policies"
        " retry_policy_typed_config hedge_policy include_request_attempt_count include_attempt_count_in_response"
        " include_is_timeout_retry_header per_request_buffer_limit_bytes request_body_buffer_limit",
    ),
    "envoy.config.route.v3.Route": treat(
        "name route redirect direct_response",
        parts="match",
        present="filter_action non_forwarding_action",
        ignored={_REPORTS: "metadata decorator tracing stat_prefix"},
        features="typed_per_filter_config request_headers_to_add request_headers_to_remove response_headers_to_add"
        " response_headers_to_remove per_request_buffer_limit_bytes request_body_buffer_limit",
    ),
    "envoy.config.route.v3.RouteMatch": treat(
        "prefix path safe_regex path_separated_prefix case_sensitive runtime_fraction headers query_parameters"
        " tls_context",
        present="grpc",
        features="connect_matcher path_match_policy dynamic_metadata filter_state",
    ),
    "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions": treat("presented validated"),
    "envoy.config.route.v3.HeaderMatcher": treat(
        "name exact_match safe_regex_match range_match present_match prefix_match suffix_match contains_match"
        " string_match invert_match treat_missing_header_as_empty"
    ),
    "envoy.config.route.v3.QueryParameterMatcher": treat("name string_match present_match"),
    "envoy.type.matcher.v3.StringMatcher": treat(
        "exact prefix suffix safe_regex contains ignore_case", features="custom"
    ),
    "envoy.type.matcher.v3.RegexMatcher": treat(
        "regex", ignored={"bounds the size of RE2's programs, and there are none": "google_re2"}
    ),
    "envoy.type.v3.Int64Range": treat("start end"),
    "envoy.config.core.v3.RuntimeFractionalPercent": treat(
        "default_value", ignored={"there is no runtime that could override the default": "runtime_key"}
    ),
    "envoy.type.v3.FractionalPercent": treat("numerator denominator"),
    "envoy.config.route.v3.RouteAction": treat(
        "cluster cluster_header weighted_clusters timeout max_stream_duration upgrade_configs",
        present="retry_policy cluster_specifier_plugin inline_cluster_specifier_plugin",
        features="metadata_match prefix_rewrite regex_rewrite path_rewrite_policy path_rewrite host_rewrite_literal"
        " auto_host_rewrite host_rewrite_header host_rewrite_path_regex host_rewrite append_x_forwarded_host"
        " request_mirror_policies rate_limits hash_policy cors internal_redirect_policy internal_redirect_action"
        " idle_timeout flush_timeout retry_policy_typed_config priority max_grpc_timeout grpc_timeout_offset"
        " hedge_policy cluster_not_found_response_code early_data_policy include_vh_rate_limits"
        " max_internal_redirects",
    ),
    "envoy.config.route.v3.RouteAction.MaxStreamDuration": treat(
        features="max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset"
    ),
    "envoy.config.route.v3.RouteAction.UpgradeConfig": treat(features="upgrade_type enabled connect_config"),
    "envoy.config.route.v3.WeightedCluster": treat(
        "clusters",
        ignored={
            "there is no runtime that could override weights": "runtime_key_prefix",
            "deprecated, and Envoy adds up the weights itself": "total_weight",
        },
        features="header_name use_hash_policy",
    ),
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": treat(
        "name weight",
        features="cluster_header metadata_match request_headers_to_add request_headers_to_remove"
        " response_headers_to_add response_headers_to_remove typed_per_filter_config host_rewrite_literal",
    ),
    "envoy.config.route.v3.RedirectAction": treat(
        "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite response_code"
        " strip_query",
        features="regex_rewrite",
    ),
    "envoy.config.route.v3.DirectResponseAction": treat("status", present="body", features="body_format"),
}

_CLUSTER: Mapping[str, Treatment] = {
    "envoy.config.cluster.v3.Cluster": treat(
        "name type cluster_type eds_cluster_config lb_policy load_balancing_policy load_assignment lb_subset_config"
        " original_dst_lb_config round_robin_lb_config common_lb_config"
        " transport_socket transport_socket_matches typed_extension_protocol_options"
        " protocol_selection dns_refresh_rate respect_dns_ttl dns_lookup_family dns_resolution_config"
        " typed_dns_resolver_config filters circuit_breakers",
        present="http2_protocol_options",
        ignored={
            _RING: "ring_hash_lb_config maglev_lb_config",
            _REPORTS: "alt_stat_name metadata lrs_server lrs_report_endpoint_metrics track_timeout_budgets"
            " track_cluster_stats",
            _NO_BUFFER: "per_connection_buffer_limit_bytes",
            _NO_CODEC: "http_protocol_options",
            _OWN_POOLS: "preconnect_policy",
            _APPROXIMATE_ALREADY: "least_request_lb_config",
            "a TLS setting, and clusters with TLS are not dialled in plaintext": "upstream_http_protocol_options",
            _OWN_QUERIES: "dns_jitter dns_failure_refresh_rate",
            "every cluster is warmed before it is used": "wait_for_warm_on_init",
            "no hosts of an ORIGINAL_DST cluster are kept": "cleanup_interval",
            "about active health checks, which are not made": "ignore_health_on_host_removal",
        },
        refused="transport_socket_matcher dns_resolvers use_tcp_for_dns_lookups upstream_bind_config upstream_config",
        unenforced="connect_timeout health_checks max_requests_per_connection common_http_protocol_options"
        " outlier_detection upstream_connection_options close_connections_on_host_health_failure"
        " connection_pool_per_downstream_connection",
    ),
    "envoy.config.cluster.v3.Cluster.CustomClusterType": treat("name typed_config"),
    "envoy.extensions.clusters.dns.v3.DnsCluster": treat(
        "dns_refresh_rate respect_dns_ttl dns_lookup_family all_addresses_in_single_endpoint"
        " typed_dns_resolver_config",
        ignored={_OWN_QUERIES: "dns_jitter dns_failure_refresh_rate"},
    ),
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig": treat(
        "dns_resolver_options",
        ignored={
            _OWN_QUERIES: "use_resolvers_as_fallback udp_max_queries query_timeout_seconds query_tries"
            " rotate_nameservers edns0_max_payload_size max_udp_channel_duration reinit_channel_on_timeout"
        },
        refused="resolvers",
        unenforced="filter_unroutable_families",
    ),
    "envoy.config.core.v3.DnsResolutionConfig": treat("dns_resolver_options", refused="resolvers"),
    "envoy.config.core.v3.DnsResolverOptions": treat(refused="use_tcp_for_dns_lookups no_default_search_domain"),
    "envoy.config.core.v3.TypedExtensionConfig": treat("name typed_config"),
    "envoy.config.cluster.v3.Cluster.EdsClusterConfig": treat("eds_config service_name"),
    "envoy.config.cluster.v3.LoadBalancingPolicy": treat("policies"),
    "envoy.config.cluster.v3.LoadBalancingPolicy.Policy": treat("typed_extension_config"),
    "envoy.config.cluster.v3.Cluster.LbSubsetConfig": treat(
        ignored={
            "without selectors there are no subsets": "fallback_policy default_subset locality_weight_aware"
            " scale_locality_weight panic_mode_any list_as_any metadata_fallback_policy"
        },
        refused="subset_selectors",
    ),
    "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig": treat(
        refused="use_http_header http_header_name upstream_port_override metadata_key"
    ),
    "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig": treat(approximated="slow_start_config"),
    "envoy.config.cluster.v3.Cluster.CommonLbConfig": treat(
        "healthy_panic_threshold zone_aware_lb_config consistent_hashing_lb_config",
        present="locality_weighted_lb_config",
        ignored={
            "updates are applied as they come": "update_merge_window",
            "about stateful sessions, which are refused themselves": "override_host_status",
        },
        unenforced="ignore_new_hosts_until_first_hc close_connections_on_host_set_change",
    ),
    "envoy.type.v3.Percent": treat("value"),
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig": treat(
        ignored={_LOCAL_CLUSTER: "routing_enabled min_cluster_size"}, refused="fail_traffic_on_panic"
    ),
    "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig": treat(
        ignored={_RING: "use_hostname_for_hashing"}, approximated="hash_balance_factor"
    ),
    "envoy.config.cluster.v3.CircuitBreakers": treat("thresholds per_host_thresholds"),
    "envoy.config.cluster.v3.CircuitBreakers.Thresholds": treat(
        "max_connections max_pending_requests max_requests max_retries max_connection_pools",
        ignored={_REPORTS: "priority track_remaining"},
        unenforced="retry_budget",
    ),
    "envoy.config.cluster.v3.Cluster.TransportSocketMatch": treat("name match transport_socket"),
    "envoy.config.core.v3.TransportSocket": treat("name typed_config"),
    "envoy.config.cluster.v3.Filter": treat("typed_config", present="config_discovery", ignored={_REPORTS: "name"}),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": treat(
        "explicit_http_config",
        present="use_downstream_protocol_config",
        parts="http_filters",
        ignored={
            "a TLS setting, and clusters with TLS are not dialled in plaintext": "upstream_http_protocol_options"
        },
        refused="auto_config header_validation_config request_mirror_policies hash_policy",
        unenforced="common_http_protocol_options outlier_detection retry_policy",
    ),
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig": treat(
        present="http_protocol_options http2_protocol_options", refused="http3_protocol_options"
    ),
    "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions": treat(unenforced="idle_timeout"),
}

_POLICIES = "envoy.extensions.load_balancing_policies."
_LB_POLICIES: Mapping[str, Treatment] = {
    _POLICIES + "round_robin.v3.RoundRobin": treat("locality_lb_config", approximated="slow_start_config"),
    _POLICIES + "random.v3.Random": treat("locality_lb_config"),
    _POLICIES + "least_request.v3.LeastRequest": treat(
        "locality_lb_config",
        ignored={
            _APPROXIMATE_ALREADY: "choice_count active_request_bias slow_start_config enable_full_scan"
            " selection_method"
        },
    ),
    _POLICIES + "ring_hash.v3.RingHash": treat(
        "consistent_hashing_lb_config",
        present="locality_weighted_lb_config",
        ignored={_RING: "hash_function minimum_ring_size maximum_ring_size use_hostname_for_hashing"},
        approximated="hash_balance_factor",
    ),
    _POLICIES + "maglev.v3.Maglev": treat(
        "consistent_hashing_lb_config", present="locality_weighted_lb_config", ignored={_RING: "table_size"}
    ),
    _POLICIES + "wrr_locality.v3.WrrLocality": treat("endpoint_picking_policy"),
    _POLICIES + "cluster_provided.v3.ClusterProvided": treat(),
    _POLICIES + "common.v3.LocalityLbConfig": treat("zone_aware_lb_config", present="locality_weighted_lb_config"),
    _POLICIES + "common.v3.LocalityLbConfig.ZoneAwareLbConfig": treat(
        ignored={
            _LOCAL_CLUSTER: "routing_enabled min_cluster_size force_locality_direct_routing force_local_zone"
            " locality_basis"
        },
        refused="fail_traffic_on_panic",
    ),
    _POLICIES + "common.v3.ConsistentHashingLbConfig": treat(
        ignored={_RING: "use_hostname_for_hashing"}, refused="hash_policy", approximated="hash_balance_factor"
    ),
}

_ENDPOINTS: Mapping[str, Treatment] = {
    "envoy.config.endpoint.v3.ClusterLoadAssignment": treat(
        "cluster_name policy",
        parts="endpoints",
        ignored={"no field that is honoured refers to them": "named_endpoints"},
    ),
    "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": treat(
        "drop_overloads overprovisioning_factor weighted_priority_health", unenforced="endpoint_stale_after"
    ),
    "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload": treat("category drop_percentage"),
    "envoy.config.endpoint.v3.LocalityLbEndpoints": treat(
        "locality load_balancing_weight priority",
        parts="lb_endpoints",
        ignored={_REPORTS: "metadata", "no released Envoy reads it": "proximity"},
        refused="load_balancer_endpoints leds_cluster_locality_config",
    ),
    "envoy.config.core.v3.Locality": treat("region zone sub_zone"),
    "envoy.config.endpoint.v3.LbEndpoint": treat(
        "endpoint health_status load_balancing_weight metadata", refused="endpoint_name"
    ),
    "envoy.config.endpoint.v3.Endpoint": treat(
        "address additional_addresses",
        ignored={
            "about active health checks, which are not made": "health_check_config",
            "for health checks and host rewriting, which is refused itself": "hostname",
        },
    ),
    "envoy.config.endpoint.v3.Endpoint.AdditionalAddress": treat("address"),
    "envoy.config.core.v3.Metadata": treat("filter_metadata", ignored={_REPORTS: "typed_filter_metadata"}),
    "envoy.config.core.v3.Address": treat("socket_address", present="pipe envoy_internal_address"),
    "envoy.config.core.v3.SocketAddress": treat(
        "protocol address port_value named_port resolver_name",
        ignored={"IPv4 peers of IPv6 sockets are handled in any case": "ipv4_compat"},
        refused="network_namespace_filepath",
    ),
    "envoy.config.core.v3.CidrRange": treat("address_prefix prefix_len"),
}

FIELDS: Mapping[str, Treatment] = {
    **_LISTENER,
    **_NETWORK_FILTERS,
    **_ROUTES,
    **_CLUSTER,
    **_LB_POLICIES,
    **_ENDPOINTS,
}
"""By full message name."""
