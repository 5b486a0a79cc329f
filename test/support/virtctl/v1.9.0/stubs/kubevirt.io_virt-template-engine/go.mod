module kubevirt.io/virt-template-engine
