"""The entries of the system's journal, by their MESSAGE_ID. systemd/kldload-kvm.catalog is made from these."""

from .text import Text

TEXTS = (
    Text(
        "8602a57922c246128e77f6d8bf778aed",
        "A job on virtual machines has ended well",
        "The job @KLDLOAD_KVM_JOB@ (@KLDLOAD_KVM_OPERATION@), started by the user id @KLDLOAD_KVM_UID@, did all "
        "that it was for, in @KLDLOAD_KVM_SECONDS@ seconds.",
        "Nothing. Its steps are shown by: kvm-job show @KLDLOAD_KVM_JOB@",
        "man:kvm-job(1)",
    ),
    Text(
        "88b376a4585b4f81aff2795640322fa9",
        "A job on virtual machines has failed",
        "The job @KLDLOAD_KVM_JOB@ (@KLDLOAD_KVM_OPERATION@), started by the user id @KLDLOAD_KVM_UID@, failed. Up "
        "to its commit point a job is undone when it fails; what was done and stays, or could not be undone, is "
        "named in the message.",
        "Its steps are shown by: kvm-job show @KLDLOAD_KVM_JOB@",
        "man:kvm-job(1)",
    ),
    Text(
        "8a8a14c241e34954b1b3075f68dd0430",
        "A job on virtual machines was cancelled",
        "The job @KLDLOAD_KVM_JOB@ (@KLDLOAD_KVM_OPERATION@) was cancelled by a person, or because the service was "
        "stopped, and what it had done was undone.",
        "If it was not you: kvm-job show @KLDLOAD_KVM_JOB@",
        "man:kvm-job(1)",
    ),
    Text(
        "694cc7b609a7480da0f2e8ef06cb086a",
        "A job that an earlier kldload-kvmd left open has been brought to its end",
        "kldload-kvmd was stopped in the middle of the job @KLDLOAD_KVM_JOB@ (@KLDLOAD_KVM_OPERATION@): it was "
        "killed, ran out of memory, or the power failed. When it started again it read in its journal how far the "
        "job had come, asked ZFS and libvirt what was really done, and then finished the job if it was past its "
        "commit point, or undid it. Guests that were frozen or paused for it go on.",
        "Its steps are shown by: kvm-job show @KLDLOAD_KVM_JOB@",
        "man:kvm-job(1) man:kldload-kvmd(8)",
    ),
)
