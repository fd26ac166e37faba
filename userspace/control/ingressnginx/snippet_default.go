package ingressnginx

import (
	"slices"
	"strings"

	"github.com/kerngate/kerngate/userspace/control/nginxconf"
)

// What snippets hold that asks for nothing: because Kerngate does the same by itself,
// because it is about the inside of nginx, or because it has no effect in nginx either.

// values are directives by their first argument, in lower case, that come to what Kerngate
// does anyway; none: whatever the argument is.
var values = map[string][]string{
	// The same as here.
	"proxy_ssl_verify":            {"off"},
	"proxy_ssl_server_name":       {"on"},
	"proxy_ssl_session_reuse":     {"on"},
	"server_tokens":               {"off"},
	"proxy_http_version":          {"1.1"},
	"proxy_buffering":             {"off"},
	"proxy_redirect":              {"off", "default"},
	"proxy_cookie_domain":         {"off"},
	"proxy_cookie_path":           {"off"},
	"proxy_intercept_errors":      {"off"},
	"proxy_ignore_client_abort":   {"off"},
	"proxy_pass_request_headers":  {"on"},
	"proxy_pass_request_body":     {"on"},
	"proxy_cache":                 {"off"},
	"proxy_store":                 {"off"},
	"chunked_transfer_encoding":   {"on"},
	"merge_slashes":               {"on"},
	"port_in_redirect":            {"off"},
	"gzip_vary":                   {"on"},
	"modsecurity":                 {"off"},
	"auth_basic":                  {"off"},
	"auth_request":                {"off"},
	"ssl_verify_client":           {"off"},
	"proxy_ssl_name":              {"$host"},
	"underscores_in_headers":      {"on"},
	"absolute_redirect":           {"on"},
	"etag":                        {"on"},
	"gunzip":                      {"off"},
	"proxy_socket_keepalive":      {"on", "off"},
	"proxy_force_ranges":          {"off"},
	"proxy_next_upstream_timeout": {"0"},
	"proxy_ignore_headers":        nil, // of responses that nginx would act on
	"proxy_pass_header":           nil, // the proxy passes all headers of responses on

	// The inside of nginx.
	"proxy_headers_hash_max_size": nil, "proxy_headers_hash_bucket_size": nil, "variables_hash_max_size": nil,
	"variables_hash_bucket_size": nil, "types_hash_max_size": nil, "types_hash_bucket_size": nil,
	"server_names_hash_bucket_size": nil, "server_names_hash_max_size": nil, "map_hash_bucket_size": nil,
	"tcp_nodelay": nil, "tcp_nopush": nil, "sendfile": nil, "aio": nil, "directio": nil, "output_buffers": nil,
	"postpone_output": nil, "open_file_cache": nil, "open_file_cache_valid": nil, "open_file_cache_errors": nil,
	"log_not_found": nil, "log_subrequest": nil, "rewrite_log": nil, "error_log": nil, "recursive_error_pages": nil,
	"reset_timedout_connection": nil, "subrequest_output_buffer_size": nil, "client_body_in_single_buffer": nil,
	"client_body_in_file_only": {"off"}, "client_body_temp_path": nil, "proxy_temp_path": nil, "proxy_temp_file_write_size": nil,
	"connection_pool_size": nil, "request_pool_size": nil, "http2_push_preload": nil, "http2_chunk_size": nil,
	"read_ahead": nil, "msie_padding": nil, "msie_refresh": nil, "uninitialized_variable_warn": nil,
}

// ownLocation are directives that ingress-nginx writes into every location itself, and the
// annotations that set them. In a server-snippet they have no effect therefore.
var ownLocation = map[string]string{
	"client_max_body_size": "proxy-body-size", "proxy_connect_timeout": "proxy-connect-timeout",
	"proxy_send_timeout": "proxy-send-timeout", "proxy_read_timeout": "proxy-read-timeout",
	"proxy_buffering": "proxy-buffering", "proxy_buffer_size": "proxy-buffer-size", "proxy_buffers": "proxy-buffers-number",
	"proxy_request_buffering": "proxy-request-buffering", "proxy_http_version": "proxy-http-version",
	"proxy_cookie_domain": "proxy-cookie-domain", "proxy_cookie_path": "proxy-cookie-path",
	"proxy_next_upstream": "proxy-next-upstream", "proxy_next_upstream_timeout": "proxy-next-upstream-timeout",
	"proxy_next_upstream_tries": "proxy-next-upstream-tries", "proxy_redirect": "proxy-redirect-from",
}

// upgradeHeaders are the headers by which snippets have nginx pass WebSockets on, with the
// values that do that. The proxy passes them on by itself.
var upgradeHeaders = map[string][]string{
	"upgrade":    {"$http_upgrade"},
	"connection": {"", "upgrade", "$connection_upgrade", "$http_connection", "keep-alive", "close"},
}

// hasNoEffect reports whether a directive asks for nothing that is not so anyway.
func (s *snippet) hasNoEffect(d nginxconf.Directive) bool {
	first := ""
	if len(d.Args) > 0 {
		first = strings.ToLower(d.Args[0])
	}
	if d.Name == "proxy_set_header" || d.Name == "grpc_set_header" {
		return len(d.Args) == 2 && slices.Contains(upgradeHeaders[first], strings.ToLower(d.Args[1]))
	}
	if allowed, known := values[d.Name]; known && len(d.Args) > 0 && (allowed == nil || slices.Contains(allowed, first)) {
		return true
	}
	if key := ownLocation[d.Name]; key != "" && s.place == inServer {
		s.note(d, "it has no effect in a server-snippet, as in ingress-nginx, whose locations have their own: the annotation "+key+" sets it")
		return true
	}
	return false
}
