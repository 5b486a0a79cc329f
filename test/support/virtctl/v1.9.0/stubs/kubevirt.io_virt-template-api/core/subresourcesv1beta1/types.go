// Package subresourcesv1beta1 has the fields that `virtctl template` names.
package subresourcesv1beta1

import virtv1 "kubevirt.io/api/core/v1"

type ProcessOptions struct{ Parameters map[string]string }

type ProcessedVirtualMachineTemplate struct {
	Message        string
	VirtualMachine *virtv1.VirtualMachine
}
