#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
    Installs semd as two Windows services, or with -Uninstall takes them away again.
.DESCRIPTION
    Run again after an update or a change of account: what is there is brought up to date, what was configured stays.
    The program goes to %ProgramFiles%\semd, everything that is written to %ProgramData%\semd.
.PARAMETER WinSW
    WinSW-x64.exe of WinSW 2, from its releases page.
.PARAMETER WinSWSha256
    Its SHA-256, as the releases page names it. Another file is refused.
.PARAMETER Source
    What pip installs: a wheel, or the folder of this repository.
.PARAMETER Python
    The Python 3.11 or newer to build on. It must be installed for all users: the services run as another account.
.PARAMETER WatchDirectory
    A local folder where NanoStation saves, when it is not %ProgramData%\semd\watch; [watch] directory must name it
    too. The daemon gets the right to move files there.
.PARAMETER Operators
    Who sits at the microscope, as icacls names accounts; by default all users of this PC. They may save frames, read
    configuration, logs and health, and abort.
.PARAMETER Credential
    A user account in place of LocalService, for frames on a network share. It needs the right to log on as a service.
.PARAMETER NoStart
    Registers the services and leaves them stopped.
.PARAMETER Uninstall
    Stops and removes the services and the program. %ProgramData%\semd stays as it is.
.EXAMPLE
    .\install.ps1 -WinSW C:\Downloads\WinSW-x64.exe -WatchDirectory D:\NanoStation\Response
#>
[CmdletBinding(DefaultParameterSetName = 'Install')]
param(
    [Parameter(ParameterSetName = 'Install')]
    [string] $WinSW = (Join-Path $PSScriptRoot 'WinSW-x64.exe'),

    [Parameter(ParameterSetName = 'Install')]
    [ValidatePattern('^[0-9A-Fa-f]{64}$')]
    [string] $WinSWSha256,

    [Parameter(ParameterSetName = 'Install')]
    [string] $Source = (Split-Path -Parent (Split-Path -Parent $PSScriptRoot)),

    [Parameter(ParameterSetName = 'Install')]
    [string] $Python = 'python',

    [Parameter(ParameterSetName = 'Install')]
    [string] $WatchDirectory,

    [Parameter(ParameterSetName = 'Install')]
    [string] $Operators = '*S-1-5-32-545',

    [Parameter(ParameterSetName = 'Install')]
    [System.Management.Automation.PSCredential] $Credential,

    [Parameter(ParameterSetName = 'Install')]
    [switch] $NoStart,

    [Parameter(ParameterSetName = 'Uninstall', Mandatory = $true)]
    [switch] $Uninstall
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$ProgramDirectory = Join-Path $env:ProgramFiles 'semd'
$DataDirectory = Join-Path $env:ProgramData 'semd'
$ConfigFile = Join-Path $DataDirectory 'semd.toml'
$Semd = Join-Path $ProgramDirectory 'venv\Scripts\semd.exe'
# Service id by the name of its WinSW and of its definition.
$Services = [ordered]@{ 'semd-daemon' = 'semd'; 'semd-middle-client' = 'semdmiddleclient' }

# SIDs, since their names are another in every language of Windows.
$Administrators = '*S-1-5-32-544'
$LocalSystem = '*S-1-5-18'
$CreatorOwner = '*S-1-3-0'

function Invoke-Program {
    param([string] $Path, [string[]] $Arguments)
    & $Path @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "$Path $($Arguments -join ' ') ended with status $LASTEXITCODE"
    }
}

function Test-ServiceExists {
    param([string] $Id)
    return $null -ne (Get-Service -Name $Id -ErrorAction SilentlyContinue)
}

function Remove-SemdService {
    param([string] $Name, [string] $Id)
    if (-not (Test-ServiceExists $Id)) {
        return
    }
    Stop-Service -Name $Id
    Invoke-Program (Join-Path $ProgramDirectory "$Name.exe") @('uninstall')
    # Windows keeps a removed service for as long as a window of it is open.
    $deadline = (Get-Date).AddSeconds(30)
    while (Test-ServiceExists $Id) {
        if ((Get-Date) -gt $deadline) {
            throw "Windows still holds the service $Id; close the windows 'Services' and 'Task Manager' and try again"
        }
        Start-Sleep -Milliseconds 500
    }
}

function Assert-Wrapper {
    if (-not (Test-Path -LiteralPath $WinSW -PathType Leaf)) {
        throw "$WinSW is not there; fetch WinSW-x64.exe of WinSW 2 and name it with -WinSW"
    }
    if ($WinSWSha256) {
        $found = (Get-FileHash -LiteralPath $WinSW -Algorithm SHA256).Hash
        if ($found -ne $WinSWSha256) {
            throw "$WinSW has the SHA-256 $found, not the one that was asked for"
        }
    }
    $version = (Get-Item -LiteralPath $WinSW).VersionInfo
    if ($version.FileMajorPart -ne 2) {
        throw "$WinSW is version $($version.FileVersion); the definitions are for WinSW 2"
    }
}

function Install-Package {
    $venv = Join-Path $ProgramDirectory 'venv'
    $venvPython = Join-Path $venv 'Scripts\python.exe'
    if (-not (Test-Path -LiteralPath $venvPython)) {
        $check = 'import sys; sys.exit(sys.version_info < (3, 11))'
        Invoke-Program $Python @('-c', $check)
        Invoke-Program $Python @('-m', 'venv', $venv)
    }
    Invoke-Program $venvPython @('-m', 'pip', 'install', '--upgrade', $Source)
    Invoke-Program $Semd @('model', 'verify')
}

function Install-SemdService {
    param([string] $Name, [string] $Id)
    $wrapper = Join-Path $ProgramDirectory "$Name.exe"
    Copy-Item -LiteralPath $WinSW -Destination $wrapper -Force
    Copy-Item -LiteralPath (Join-Path $PSScriptRoot "$Name.xml") -Destination $ProgramDirectory -Force
    Invoke-Program $wrapper @('install')
    if ($Credential) {
        $service = Get-CimInstance -ClassName Win32_Service -Filter "Name='$Id'"
        $login = $Credential.GetNetworkCredential()
        $change = @{ StartName = $Credential.UserName; StartPassword = $login.Password }
        $answer = Invoke-CimMethod -InputObject $service -MethodName Change -Arguments $change
        if ($answer.ReturnValue -ne 0) {
            throw "the account $($Credential.UserName) was refused for $Id, status $($answer.ReturnValue)"
        }
    }
    # A SID of its own: the folders are opened to this service, not to all that run as LocalService.
    Invoke-Program 'sc.exe' @('sidtype', $Id, 'unrestricted')
}

function Initialize-Data {
    if (-not (Test-Path -LiteralPath $ConfigFile)) {
        Invoke-Program $Semd @('init', $DataDirectory)
    }
    New-Item -ItemType Directory -Path (Join-Path $DataDirectory 'service-logs') -Force | Out-Null
    # Nothing is inherited: by default every user may write below ProgramData.
    Invoke-Program 'icacls.exe' @($DataDirectory, '/inheritance:r', '/grant:r',
        "${Administrators}:(OI)(CI)F", "${LocalSystem}:(OI)(CI)F", "${Operators}:(OI)(CI)RX")
    Invoke-Program 'icacls.exe' @($ConfigFile, '/inheritance:r', '/grant:r',
        "${Administrators}:F", "${LocalSystem}:F", "${Operators}:R")
    # Where NanoStation saves; and where `semd abort` makes its file, which who made it may take away again.
    $watch = if ($WatchDirectory) { $WatchDirectory } else { Join-Path $DataDirectory 'watch' }
    New-Item -ItemType Directory -Path $watch -Force | Out-Null
    Invoke-Program 'icacls.exe' @($watch, '/grant', "${Operators}:(OI)(CI)M",
        "NT SERVICE\$($Services['semd-daemon']):(OI)(CI)M")
    Invoke-Program 'icacls.exe' @((Join-Path $DataDirectory 'actions'), '/grant', "${Operators}:(WD)",
        "${CreatorOwner}:(OI)(IO)M")
    foreach ($id in $Services.Values) {
        Invoke-Program 'icacls.exe' @($DataDirectory, '/grant', "NT SERVICE\${id}:(OI)(CI)M")
        # The configuration holds the limits: the services read it and never write it.
        Invoke-Program 'icacls.exe' @($ConfigFile, '/grant', "NT SERVICE\${id}:R")
    }
}

if (-not [Environment]::Is64BitOperatingSystem) {
    throw 'semd needs a 64-bit Windows'
}

if ($Uninstall) {
    foreach ($name in $Services.Keys) {
        Remove-SemdService $name $Services[$name]
    }
    if (Test-Path -LiteralPath $ProgramDirectory) {
        Remove-Item -LiteralPath $ProgramDirectory -Recurse -Force
    }
    Write-Output "removed; configuration, ledger, archive and logs are still in $DataDirectory"
    return
}

Assert-Wrapper
New-Item -ItemType Directory -Path $ProgramDirectory -Force | Out-Null
foreach ($name in $Services.Keys) {
    Remove-SemdService $name $Services[$name]
}
Install-Package
foreach ($name in $Services.Keys) {
    Install-SemdService $name $Services[$name]
}
Initialize-Data
if ($NoStart) {
    Write-Output "not started yet; look through $ConfigFile, then: Start-Service $($Services.Values -join ', ')"
    return
}
foreach ($id in $Services.Values) {
    Start-Service -Name $id
}
Write-Output "running; configuration: $ConfigFile; how it goes: & '$Semd' health --config '$ConfigFile'"
