// Package v1beta1 has the fields that `virtctl template` names.
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kubevirt.io/virt-template-api/core"
)

var GroupVersion = schema.GroupVersion{Group: core.GroupName, Version: "v1beta1"}

type Parameter struct {
	Name, DisplayName, Description, Value, Generate, From string
	Required                                              bool
}

type VirtualMachineTemplateSpec struct {
	Message        string
	Parameters     []Parameter
	VirtualMachine *runtime.RawExtension
}

type VirtualMachineTemplate struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Spec VirtualMachineTemplateSpec
}

func (t *VirtualMachineTemplate) DeepCopyObject() runtime.Object {
	panic("a stub has no templates")
}

type VirtualMachineReference struct{ Namespace, Name string }

type VirtualMachineTemplateRequestSpec struct {
	VirtualMachineRef VirtualMachineReference
	TemplateName      string
}

type VirtualMachineTemplateRequest struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Spec VirtualMachineTemplateRequestSpec
}
