package sink

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailwater/tailwater/record"
)

func bigBlock(project string, bytes int) *record.Block {
	b := docs(project)
	o := record.NewOrigin(record.OriginFields{Machine: "m", Generation: "g", Project: project})
	var r record.Record
	message := []byte(strings.Repeat("GET /api/v1/orders 200 0.012 ", 5))
	for len(b.Data) < bytes {
		r.Reset()
		r.Put("message", message, record.Text)
		b.Append(o, &r, time.Now().UnixMilli(), true, int64(len(b.Data)))
	}
	return b
}

func TestWritingADocumentDoesNotAllocate(t *testing.T) {
	s := newFile(t, FileConfig{Path: filepath.Join(t.TempDir(), "{project}.ndjson")})
	all := refs(bigBlock("pay", 64<<10), bigBlock("shop", 64<<10))
	batch := &Batch{Refs: all}
	done := func(r Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	perBatch := testing.AllocsPerRun(50, func() { s.Send(context.Background(), batch, done) })
	if perDoc := perBatch / float64(len(all)); perDoc > 0.02 {
		t.Errorf("%v allocations per batch of %d documents", perBatch, len(all))
	}
}

func BenchmarkFileSend(b *testing.B) {
	for _, kind := range []struct {
		name  string
		batch []record.Ref
	}{
		{"one", refs(bigBlock("pay", 256<<10), bigBlock("pay", 256<<10))},
		{"alternating", alternate(refs(bigBlock("pay", 256<<10)), refs(bigBlock("shop", 256<<10)))},
	} {
		b.Run(kind.name, func(b *testing.B) {
			dir := b.TempDir()
			s := newFile(b, FileConfig{Path: filepath.Join(dir, "{project}.ndjson")})
			batch := &Batch{Refs: kind.batch}
			for _, r := range batch.Refs {
				batch.Bytes += len(r.JSON()) + 1
			}
			b.SetBytes(int64(batch.Bytes))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s.Send(context.Background(), batch, func(r Result) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				})
				if n++; n%500 == 0 { // so that the disk is not filled
					for _, p := range []string{"pay", "shop"} {
						_ = os.Truncate(filepath.Join(dir, p+".ndjson"), 0)
					}
				}
			}
		})
	}
}

func alternate(a, b []record.Ref) (all []record.Ref) {
	for i := range min(len(a), len(b)) {
		all = append(all, a[i], b[i])
	}
	return all
}
