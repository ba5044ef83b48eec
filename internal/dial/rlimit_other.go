//go:build !unix

package dial

// DescriptorLimit returns 0: there is no such limit, or it is not known.
func DescriptorLimit() int { return 0 }
