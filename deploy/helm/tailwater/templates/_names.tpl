{{- define "tailwater.name" -}}
{{- if contains "tailwater" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-tailwater" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tailwater.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "tailwater.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "tailwater.priorityClass" -}}
{{- if .Values.priorityClass.create }}{{ .Values.priorityClass.name | default (include "tailwater.name" .) }}{{ else }}{{ .Values.priorityClass.name }}{{ end }}
{{- end }}

{{- define "tailwater.selector" -}}
app.kubernetes.io/name: tailwater
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tailwater.labels" -}}
{{ include "tailwater.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
