package health

import (
	"encoding/binary"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// What servingStatus takes, protobuf's own reader takes too, and both find the same.
func FuzzServingStatus(f *testing.F) {
	f.Add([]byte{8, 1})
	f.Add([]byte{8, 2, 18, 1, 'x'})
	f.Add([]byte{})
	f.Add([]byte{10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := servingStatus(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
		var want grpc_health_v1.HealthCheckResponse
		if proto.Unmarshal(message, &want) != nil {
			return // ours does not look into what it skips
		}
		if err == nil && got == 1 && want.Status != 1 {
			t.Errorf("%x: SERVING, protobuf reads %d", message, want.Status)
		}
		if want.Status == 1 && err == nil && got != 1 {
			t.Errorf("%x: status %d, protobuf reads SERVING", message, got)
		}
	})
}
