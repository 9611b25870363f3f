package flood

import (
	"crypto/tls"
	"testing"
)

// TestJA4 has the example of the specification's technical details, and what
// it says about the cases that the example does not have.
func TestJA4(t *testing.T) {
	chrome := &tls.ClientHelloInfo{
		CipherSuites: []uint16{0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035},
		Extensions: []uint16{0xaaaa, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01, 0x000b, 0x000a,
			0x0015, 0x3a3a},
		SignatureSchemes:  []tls.SignatureScheme{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601},
		SupportedVersions: []uint16{0x9a9a, 0x0304, 0x0303}, SupportedProtos: []string{"h2", "http/1.1"},
	}
	if got, want := JA4(chrome), "t13d1516h2_8daaf6152771_e5627efa2ab1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	bare := &tls.ClientHelloInfo{CipherSuites: []uint16{0x002f}, SupportedVersions: []uint16{0x0303, 0x0302}, SupportedProtos: []string{"\xab1\xcd"}}
	if got, want := JA4(bare), "t12i0100ad_"+short("002f")+"_000000000000"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := JA4(&tls.ClientHelloInfo{}), "t00i000000_000000000000_000000000000"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for v, want := range map[uint16]bool{0x0a0a: true, 0xfafa: true, 0x0a1a: false, 0x1301: false, 0x0aaa: false} {
		if grease(v) != want {
			t.Errorf("grease(%04x) = %v", v, !want)
		}
	}
}
