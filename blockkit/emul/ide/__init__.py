"""IDE: two channels of the PIIX3, hard disks and CD-ROMs (ATA/ATAPI-6, ATA8-ACS; Bus Master IDE 1.0)."""
