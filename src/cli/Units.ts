/**
 * The units for systemd that `ep2 init` writes. docs/systemd has a copy of each,
 * and a test that they are equal; the unit is the one that runs in our tests.
 */

/** `ep2.service`, for the conf in /etc/ep2. */
export const service = `# ep2 under systemd. Copy it to /etc/systemd/system/, then: systemctl daemon-reload && systemctl enable --now ep2
# docs/operations.md, "Under systemd", says what each line is for. What differs on your machine goes into a drop-in
# (systemctl edit ep2). Further ones are called ep2@NAME.service, by which ep2 knows a HAProxy of ep2's.

[Unit]
Description=ep2 keeps HAProxy's servers in step with their source
Wants=network-online.target
After=network-online.target haproxy.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/ep2 start --conf /etc/ep2/ep2.conf
ExecReload=/bin/kill -HUP $MAINPID

CacheDirectory=ep2
CacheDirectoryMode=0700
Environment=MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=131072

KillMode=process
Restart=always
RestartSec=1
RestartPreventExitStatus=2
TimeoutStartSec=30
TimeoutStopSec=2min
WatchdogSec=2min
WatchdogSignal=SIGKILL

NoNewPrivileges=yes
CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_RAWIO CAP_MKNOD CAP_BPF CAP_PERFMON
ProtectSystem=full
ReadWritePaths=-/etc/haproxy
ProtectHome=read-only
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
`

/** `haproxy.service.d/ep2.conf`: what ep2 needs of HAProxy's own unit. */
export const dropIn = `# What ep2 needs of HAProxy's own unit: /etc/systemd/system/haproxy.service.d/ep2.conf
# docs/operations.md, "Under systemd", says what each line is for.

[Service]
RuntimeDirectory=haproxy
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=yes
`
