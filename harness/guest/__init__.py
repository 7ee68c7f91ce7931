"""What a guest is made of: its userland, its initramfs, and the words it speaks with us."""
