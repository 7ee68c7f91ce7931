"""From a package, an image or a folder to a kernel that is known well enough to boot and test."""
