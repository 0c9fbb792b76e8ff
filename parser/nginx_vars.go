package parser

// nginxKind says what a variable's values look like and what becomes of them.
type nginxKind uint8

const (
	nginxText      nginxKind = iota // anything
	nginxToken                      // without blanks
	nginxTokens                     // tokens in a list: "10.0.0.1:80, 10.0.0.2:80 : unix:/run/b"
	nginxInt                        // digits
	nginxClientInt                  // digits, when the client is honest: a header's value
	nginxDecimal                    // digits, a dot, digits
	nginxStatus                     // three digits, "000" among them
	nginxSeconds                    // $request_time
	nginxUpstream                   // $upstream_response_time: a list of decimals, summed
	nginxSum                        // a list of numbers, summed
	nginxLast                       // a list of numbers, of which the last one counts
	nginxTimeLocal                  // 23/Nov/2026:20:00:00 +0000
	nginxTimeISO                    // 2026-11-23T20:00:00+00:00
	nginxMsec                       // 1795464000.123
	nginxRequest                    // GET /path?query HTTP/1.1
	nginxTarget                     // /path?query
	nginxProtocol                   // HTTP/1.1
	nginxPathArgs                   // $uri$is_args$args
	nginxPair                       // two variables with nothing between them
)

// nginxVar is what is known of a variable.
type nginxVar struct {
	key  string // the field, when it is not the variable's name
	kind nginxKind
	list string // the field of the whole text, when a list has more than one entry
}

// nginxVars are the variables whose values are not just text under their own name. The
// names and forms are those of the modules of nginx 1.29 (ngx_http_variables.c,
// ngx_http_log_module.c, ngx_http_upstream.c, their stream siblings) and of
// ingress-nginx.
var nginxVars = map[string]nginxVar{
	"status":                 {key: "status_code", kind: nginxStatus},
	"request_time":           {kind: nginxSeconds},
	"upstream_response_time": {key: "upstream_time", kind: nginxUpstream, list: "upstream_times"},
	"body_bytes_sent":        {key: "bytes_sent", kind: nginxInt},
	"bytes_sent":             {key: "total_bytes_sent", kind: nginxInt},
	"http_referer":           {key: "referer"},
	"http_user_agent":        {key: "user_agent"},
	"host":                   {key: "vhost", kind: nginxToken},
	"request":                {kind: nginxRequest},
	"time_local":             {kind: nginxTimeLocal},
	"time_iso8601":           {kind: nginxTimeISO},
	"msec":                   {kind: nginxMsec},

	"upstream_connect_time":    {kind: nginxSum, list: "upstream_connect_times"},
	"upstream_header_time":     {kind: nginxSum, list: "upstream_header_times"},
	"upstream_first_byte_time": {kind: nginxSum, list: "upstream_first_byte_times"},
	"upstream_session_time":    {kind: nginxSum, list: "upstream_session_times"},
	"upstream_queue_time":      {kind: nginxSum, list: "upstream_queue_times"},
	"upstream_response_length": {kind: nginxSum, list: "upstream_response_lengths"},
	"upstream_bytes_received":  {kind: nginxSum, list: "upstream_bytes_received_list"},
	"upstream_bytes_sent":      {kind: nginxSum, list: "upstream_bytes_sent_list"},
	"upstream_status":          {kind: nginxLast, list: "upstream_statuses"},
	"upstream_addr":            {kind: nginxTokens},
	"upstream_cache_status":    {kind: nginxToken},

	"request_length":               {kind: nginxInt},
	"connection":                   {kind: nginxInt},
	"connection_requests":          {kind: nginxInt},
	"connection_time":              {kind: nginxDecimal},
	"connections_active":           {kind: nginxInt},
	"connections_reading":          {kind: nginxInt},
	"connections_writing":          {kind: nginxInt},
	"connections_waiting":          {kind: nginxInt},
	"gzip_ratio":                   {kind: nginxDecimal},
	"pid":                          {kind: nginxInt},
	"server_port":                  {kind: nginxInt},
	"remote_port":                  {kind: nginxInt},
	"proxy_port":                   {kind: nginxInt},
	"realip_remote_port":           {kind: nginxInt},
	"proxy_protocol_port":          {kind: nginxInt},
	"proxy_protocol_server_port":   {kind: nginxInt},
	"session_time":                 {kind: nginxDecimal},
	"bytes_received":               {kind: nginxInt},
	"tcpinfo_rtt":                  {kind: nginxInt},
	"tcpinfo_rttvar":               {kind: nginxInt},
	"tcpinfo_snd_cwnd":             {kind: nginxInt},
	"tcpinfo_rcv_space":            {kind: nginxInt},
	"content_length":               {kind: nginxClientInt},
	"http_content_length":          {kind: nginxClientInt},
	"sent_http_content_length":     {kind: nginxClientInt},
	"upstream_http_content_length": {kind: nginxClientInt},

	"remote_addr":               {kind: nginxToken},
	"realip_remote_addr":        {kind: nginxToken},
	"proxy_protocol_addr":       {kind: nginxToken},
	"server_addr":               {kind: nginxToken},
	"server_name":               {kind: nginxToken},
	"scheme":                    {kind: nginxToken},
	"request_method":            {kind: nginxToken},
	"server_protocol":           {kind: nginxToken},
	"request_uri":               {kind: nginxToken},
	"request_id":                {kind: nginxToken},
	"req_id":                    {kind: nginxToken},
	"pipe":                      {kind: nginxToken},
	"https":                     {kind: nginxToken},
	"http2":                     {kind: nginxToken},
	"http3":                     {kind: nginxToken},
	"is_args":                   {kind: nginxToken},
	"ssl_protocol":              {kind: nginxToken},
	"ssl_cipher":                {kind: nginxToken},
	"http_x_forwarded_for":      {kind: nginxTokens},
	"proxy_add_x_forwarded_for": {kind: nginxTokens},
	"protocol":                  {kind: nginxToken},
	"request_completion":        {kind: nginxToken},
	"hostname":                  {kind: nginxToken},
	"http_host":                 {kind: nginxToken},
	"http_x_real_ip":            {kind: nginxToken},
	"http_x_request_id":         {kind: nginxToken},
	"nginx_version":             {kind: nginxToken},
	"proxy_host":                {kind: nginxToken},
	"proxy_upstream_name":       {kind: nginxToken},
	"namespace":                 {kind: nginxToken},
	"ingress_name":              {kind: nginxToken},
	"service_name":              {kind: nginxToken},
	"service_port":              {kind: nginxToken},
	"ssl_server_name":           {kind: nginxToken},
	"ssl_session_reused":        {kind: nginxToken},
	"the_real_ip":               {kind: nginxToken},
}

// nginxOwners lists, for each field that more than one variable can give, those
// variables. The first of them that a log_format has gives the field, and the others
// keep their names.
var nginxOwners = []struct {
	key  string
	vars []string
}{
	{"method", []string{"request", "request_method"}},
	{"path", []string{"request", "request_uri", "uri", "document_uri"}},
	{"query", []string{"request", "request_uri", "args", "query_string"}},
	{"http_version", []string{"request", "server_protocol"}},
	{"request_id", []string{"request_id", "req_id", "http_x_request_id"}},
}

// nginxFormats are the formats that have a name of their own.
var nginxFormats = map[string]string{
	"combined": nginxCombined,
	"main":     nginxCombined + ` "$http_x_forwarded_for"`,
	"upstreaminfo": nginxCombined + ` $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] ` +
		`$upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id`,
}

const nginxCombined = `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
