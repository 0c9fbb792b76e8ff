package config

import (
	"strings"
	"time"

	"github.com/tailwater/tailwater/internal/units"
)

// ElasticsearchOutput writes documents to Elasticsearch.
type ElasticsearchOutput struct {
	URLs  []string `yaml:"urls" required:"yes" min:"1" check:"url" also:"hosts url host endpoints" doc:"URLs of some nodes; requests are spread over them." example:"['http://es1:9200']"`
	Index string   `yaml:"index" required:"yes" check:"index" doc:"Index with placeholders: {project}, {date} (the day of the event's own time in UTC; a replay meets its first copy there), or any other field." example:"'logs-{project}-{date}'"`

	Target string `yaml:"target" default:"index" oneof:"index alias data_stream" also:"as write_to" doc:"What the name is: a (daily) index; an alias with a write index; or a data stream. The last two roll over, and a line that is sent again after that is there twice."`

	User          string       `yaml:"user" unset:"no authentication" also:"username" doc:"User of basic authentication."`
	Password      units.Secret `yaml:"password" unset:"none" doc:"Password of basic authentication." example:"${file:/run/secrets/elastic}"`
	APIKey        units.Secret `yaml:"api_key" unset:"none" also:"apikey" doc:"API key, in the encoded form or as ID:KEY."`
	CA            string       `yaml:"ca" unset:"the system's authorities" also:"ca_file cacert" doc:"PEM file of the authorities to trust."`
	CAFingerprint string       `yaml:"ca_fingerprint" unset:"none" also:"fingerprint" doc:"SHA-256 of a certificate of the chain to trust, in hexadecimal."`

	Gzip      bool          `yaml:"gzip" default:"false" also:"compress compression" doc:"Whether requests are compressed: for networks that are slower than a core."`
	Requests  int           `yaml:"requests" default:"4" min:"1" max:"64" also:"concurrency workers" doc:"Requests under way at once at most; fewer while the cluster is overloaded."`
	BulkBytes units.Bytes   `yaml:"bulk_bytes" default:"4MiB" min:"1KiB" max:"64MiB" also:"bulk_size batch_size" doc:"About the largest request."`
	Timeout   time.Duration `yaml:"timeout" default:"90s" min:"100ms" max:"1h" doc:"How long an answer may take before the request is sent again."`

	ca pemFile
}

// Check looks at what concerns several keys at once.
func (o *ElasticsearchOutput) Check(problem func(key, text string)) {
	if o.Target != "index" && strings.Contains(o.Index, "{date}") {
		problem("index", "{date} makes an index for each day, and target: "+o.Target+" rolls over by itself; leave {date} out")
	}
	if o.APIKey != "" && o.User != "" {
		problem("api_key", "there is a user too; write one of the two")
	}
	if (o.User == "") != (o.Password == "") {
		problem("user", "user and password belong together; write both or none")
	}
	o.ca.read(o.CA)
}

// Authorities are those to trust, in PEM, as the file had them when the configuration was
// read; nil are the system's.
func (o *ElasticsearchOutput) Authorities() ([]byte, error) {
	_, err := o.ca.authorities(o.CA)
	return o.ca.text, err
}
